"""The shop in Flask: `flask --app examples.flask_app.app run`."""
