"""`openapi.yaml` against the code and, by schemathesis, against the running server."""
