"""Serve a model over HTTP: the worker that runs the engine, admission, the plan and a load test."""
