"""The app: one module a tab. Nothing here computes; it asks the toolkit and shows the answer."""
