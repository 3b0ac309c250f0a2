"""The engine that runs stages as tasks of one Prefect flow run, and the API that it talks to."""
