"""Schedules: numbers that follow the clock of a train stage."""
