<?php
// Whatever has to be done from time to time.
file_put_contents('/tmp/web-stack-cleanup', date('c') . "\n", FILE_APPEND);
