"""What every package needs: settings, errors, fingerprints, files, hardware, progress, random numbers."""
