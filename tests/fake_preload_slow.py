"""Takes as long to import as Keras does on a good day."""

import time

time.sleep(1.5)
