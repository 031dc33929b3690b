"""Where artifacts run. So far this machine, through measure.bench; ssh and adb come with the device benchmark."""
