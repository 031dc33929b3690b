"""Machines that models are timed on: this one, one behind ssh, a phone behind adb."""
