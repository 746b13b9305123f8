"""The shop in Starlette: `uvicorn examples.starlette_app.app:app`."""
