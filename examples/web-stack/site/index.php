<?php
header('Content-Type: text/plain');
echo "generation of process ", getmypid(), "\n";
