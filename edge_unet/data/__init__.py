"""Images and masks: folders, procedural scenes, augmentation, calibration sets."""
