<?php
// SPDX-License-Identifier: GPL-3.0-or-later
// Runs the features of a driver's suite and prints a line of TAP for each.

set_error_handler(function ($level, $message, $file, $line) {
    throw new ErrorException($message, 0, $level, $file, $line);
}, E_ALL & ~E_DEPRECATED);

function feature(string $name, callable $body): void
{
    $GLOBALS['features'][$name] = $body;
}

function run(): void
{
    $failed = 0;
    foreach ($GLOBALS['features'] as $name => $body) {
        try {
            $body();
            echo "ok - $name\n";
        } catch (Throwable $e) {
            $failed = 1;
            echo "$e\nnot ok - $name\n";
        }
    }
    exit($failed);
}

function equal($got, $want): void
{
    if ($got !== $want) {
        throw new Exception(substr('got ' . var_export($got, true), 0, 400) . substr(', want ' . var_export($want, true), 0, 400));
    }
}
