"""The app: python app.py"""

if __name__ == "__main__":
    from toolkit.ui.page import serve

    serve()
