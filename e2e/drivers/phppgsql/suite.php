<?php
// SPDX-License-Identifier: GPL-3.0-or-later
// PHP's pgsql: libpq's functions, text format.
require __DIR__ . '/../tap.php';

define('PREFIX', getenv('PREFIX'));
define('CANARY', getenv('CANARY'));
const PUT = 'SELECT vault.put_secret($1, $2)';
const READ = 'SELECT vault.read_secret($1) AS pw';

function connect(string $options = '')
{
    return pg_connect("connect_timeout=10 $options", PGSQL_CONNECT_FORCE_NEW);
}

// result runs a query and gives its result, also of one that failed.
function result($conn, string $query, ?array $args = null)
{
    $args === null ? pg_send_query($conn, $query) : pg_send_query_params($conn, $query, $args);
    $result = pg_get_result($conn);
    while (pg_get_result($conn)) {
    }
    return $result;
}

function one($conn, string $query, ?array $args = null): ?string
{
    return pg_fetch_result($args === null ? pg_query($conn, $query) : pg_query_params($conn, $query, $args), 0, 0);
}

function raises(string $state, $conn, string $query, ?array $args = null): string
{
    $result = result($conn, $query, $args);
    equal(pg_result_error_field($result, PGSQL_DIAG_SQLSTATE), $state);
    return pg_result_error($result);
}

$conn = connect();

feature('put', function () use ($conn) {
    equal(one($conn, PUT, [PREFIX . '/canary', CANARY]), '1');
    foreach (['0', CANARY . "\n\t", str_repeat('x', 400000)] as $n => $value) {
        equal(one($conn, PUT, [PREFIX . '/put', $value]), (string) ($n + 1));
        equal(one($conn, READ, [PREFIX . '/put']), $value);
    }
    $literals = pg_escape_literal($conn, PREFIX . '/put') . ', ' . pg_escape_literal($conn, CANARY);
    equal(one($conn, "SELECT vault.put_secret($literals)"), '4');
});

feature('read text', function () use ($conn) {
    $result = pg_query_params($conn, 'SELECT 1 AS n, vault.read_secret($1) AS pw, now()', [PREFIX . '/canary']);
    equal([pg_field_name($result, 1), pg_field_type($result, 1), pg_field_type_oid($result, 1)], ['pw', 'text', 25]);
    equal(array_slice(pg_fetch_row($result), 0, 2), ['1', CANARY]);
});

feature('prepare', function () use ($conn) {
    pg_prepare($conn, 'read', READ);
    pg_prepare($conn, 'put', PUT);
    for ($n = 1; $n <= 8; $n++) {
        equal(pg_fetch_result(pg_execute($conn, 'read', [PREFIX . '/canary']), 0, 0), CANARY);
        equal(pg_fetch_result(pg_execute($conn, 'put', [PREFIX . '/prepared', CANARY . $n]), 0, 0), (string) $n);
    }
    equal(one($conn, READ, [PREFIX . '/prepared']), CANARY . '8');
    pg_query($conn, 'DEALLOCATE ALL');
});

feature('batch', function () use ($conn) {
    $put = fn ($n) => 'SELECT vault.put_secret(' . pg_escape_literal($conn, PREFIX . "/batch$n") . ', ' . pg_escape_literal($conn, CANARY . $n) . ')';
    pg_send_query($conn, implode('; ', array_map($put, range(1, 50))) . "; SELECT vault.read_secret('" . PREFIX . "/batch50')");
    for ($got = []; $result = pg_get_result($conn);) {
        $got[] = pg_fetch_result($result, 0, 0);
    }
    equal($got, array_merge(array_fill(0, 50, '1'), [CANARY . '50']));
    raises('22023', $conn, $put(1) . "; SELECT vault.put_secret('bad name', 'x')");
    equal(one($conn, 'SELECT count(*) FROM vault.list_secrets($1)', [PREFIX . '/batch']), '50');
});

feature('cursor', function () use ($conn) {
    pg_query($conn, 'BEGIN');
    pg_query_params($conn, 'DECLARE c CURSOR FOR SELECT g, vault.read_secret($1) FROM generate_series(1, 50) g', [PREFIX . '/canary']);
    $got = [];
    while ($rows = pg_fetch_all(pg_query($conn, 'FETCH 7 FROM c'), PGSQL_NUM)) {
        $got = array_merge($got, $rows);
    }
    pg_query($conn, 'COMMIT');
    equal($got, array_map(fn ($g) => [(string) $g, CANARY], range(1, 50)));
});

feature('copy in', function () use ($conn) {
    pg_query($conn, 'CREATE TEMP TABLE copied (id int, t text)');
    equal(pg_copy_from($conn, 'copied', array_map(fn ($i) => "$i\trow $i\n", range(1, 20000))), true);
    equal(one($conn, 'SELECT count(*) FROM copied'), '20000');
    pg_query($conn, 'COPY copied FROM STDIN');
    pg_put_line($conn, "bad\tx\n");
    pg_put_line($conn, "\\.\n");
    try {
        pg_end_copy($conn);
        equal('no error', '22P02');
    } catch (ErrorException $e) {
        equal(str_contains($e->getMessage(), 'invalid input syntax'), true);
    }
    equal(one($conn, 'SELECT count(*) FROM copied'), '20000');
});

feature('copy out', function () use ($conn) {
    pg_query($conn, 'CREATE TEMP TABLE numbers AS SELECT g FROM generate_series(1, 20000) g');
    equal(implode('', pg_copy_to($conn, 'numbers')), implode('', array_map(fn ($g) => "$g\n", range(1, 20000))));
    equal(substr(pg_copy_to($conn, "(SELECT vault.read_secret('" . PREFIX . "/canary'))")[0], 0, 4), 'hv1.');
});

feature('transaction', function () use ($conn) {
    pg_query($conn, 'BEGIN');
    equal(one($conn, PUT, [PREFIX . '/transaction', CANARY]), '1');
    equal(one($conn, READ, [PREFIX . '/transaction']), CANARY);
    pg_query($conn, 'ROLLBACK');
    raises('P0002', $conn, READ, [PREFIX . '/transaction']);
    pg_query($conn, 'BEGIN');
    equal(one($conn, PUT, [PREFIX . '/transaction', CANARY]), '1');
    pg_query($conn, 'COMMIT');
    equal(one($conn, READ, [PREFIX . '/transaction']), CANARY);
});

feature('savepoint', function () use ($conn) {
    pg_query($conn, 'BEGIN');
    equal(one($conn, PUT, [PREFIX . '/savepoint', CANARY]), '1');
    foreach ([['XX001', READ, [getenv('BROKEN')]], ['22023', PUT, ['bad name', CANARY]], ['22012', 'SELECT 1/0', null]] as [$state, $query, $args]) {
        pg_query($conn, 'SAVEPOINT s');
        raises($state, $conn, $query, $args);
        equal(pg_transaction_status($conn), PGSQL_TRANSACTION_INERROR);
        pg_query($conn, 'ROLLBACK TO s');
        equal(one($conn, READ, [PREFIX . '/savepoint']), CANARY);
    }
    pg_query($conn, 'COMMIT');
});

feature('error', function () use ($conn) {
    foreach ([
        ['P0002', READ, ['none']],
        ['22023', PUT, ['bad name', CANARY]],
        ['22004', PUT, [PREFIX . '/error', null]],
        ['0A000', 'SELECT vault.put_secret($1, upper($2))', [PREFIX . '/error', CANARY]],
        ['42883', 'SELECT vault.putsecret($1, $2)', [PREFIX . '/error', CANARY]],
        ['42601', 'SELECT 1 +', null],
    ] as [$state, $query, $args]) {
        equal(str_contains(raises($state, $conn, $query, $args), CANARY), false);
        equal(one($conn, 'SELECT 1'), '1');
    }
});

feature('cancel', function () use ($conn) {
    pg_query($conn, "SET application_name = '" . PREFIX . "'");
    pg_send_query($conn, 'SELECT pg_sleep(600)');
    $watcher = connect(sprintf("user='%s' password='%s'", getenv('SUPERUSER'), getenv('SUPERPASSWORD')));
    $asleep = "SELECT count(*) FROM activity WHERE application_name = $1 AND wait_event = 'PgSleep'";
    while (one($watcher, $asleep, [PREFIX]) === '0') {
    }
    equal(pg_connection_busy($conn), true);
    equal(pg_cancel_query($conn), true);
    equal(one($watcher, $asleep, [PREFIX]), '0');
    pg_close($watcher);
    equal(one($conn, READ, [PREFIX . '/canary']), CANARY);
});

feature('notify', function () use ($conn) {
    pg_query($conn, 'LISTEN phppgsql_channel');
    pg_query($conn, "NOTIFY phppgsql_channel, 'mine'");
    $heard = pg_get_notify($conn, PGSQL_ASSOC);
    equal([$heard['payload'], $heard['pid']], ['mine', pg_get_pid($conn)]);
    $other = connect();
    $pid = one($other, "SELECT pg_backend_pid() FROM pg_notify('phppgsql_channel', 'theirs')");
    do {
        pg_consume_input($conn);
        $heard = pg_get_notify($conn, PGSQL_ASSOC);
    } while (!$heard);
    equal([$heard['payload'], (string) $heard['pid']], ['theirs', $pid]);
    pg_close($other);
});

feature('large object', function () use ($conn) {
    pg_query($conn, 'BEGIN');
    $oid = pg_lo_create($conn);
    $large = pg_lo_open($conn, $oid, 'w+');
    equal(pg_lo_write($large, str_repeat('large', 100000)), 500000);
    pg_lo_seek($large, 0, PGSQL_SEEK_SET);
    equal(pg_lo_read($large, 500000), str_repeat('large', 100000));
    pg_lo_close($large);
    equal(pg_lo_unlink($conn, $oid), true);
    pg_query($conn, 'COMMIT');
});

run();
