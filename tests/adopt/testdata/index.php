generation <?= getenv('HOTINIT_GENERATION') ?>

