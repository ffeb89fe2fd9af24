"""Asynchronous calls: kept in JetStream, made by workers through the edge, their results delivered."""
