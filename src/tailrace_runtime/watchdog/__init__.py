"""Runs any program as a function: the contract of OpenFaaS's of-watchdog, for replicas and for images."""
