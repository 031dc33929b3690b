"""The road, step by step: train, quantize, export, verify, evaluate, bench, report. The only place where the torch
wing and the device wing meet; between steps only files cross. Each step is its own module and imports what it needs
inside its function, so that no verb pays for a toolchain it does not use."""
