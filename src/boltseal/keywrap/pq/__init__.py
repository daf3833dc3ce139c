"""The ``provider.boltseal-pq`` scheme: recipients that withstand quantum computers."""
