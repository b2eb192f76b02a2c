"""How the answers are checked: beside each solution its points, random cases, and the mistakes that are explained."""
