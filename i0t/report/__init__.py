"""Pictures of the gap."""
