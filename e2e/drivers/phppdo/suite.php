<?php
// SPDX-License-Identifier: GPL-3.0-or-later
// PDO pgsql: prepares on the server, or (emulated) writes the values into the text.
require __DIR__ . '/../tap.php';

define('PREFIX', getenv('PREFIX'));
define('CANARY', getenv('CANARY'));
const PUT = 'SELECT vault.put_secret(?, ?)';
const READ = 'SELECT vault.read_secret(?) AS pw';

function connect(array $attributes = [], ?string $user = null, ?string $password = null): PDO
{
    $pdo = new PDO('pgsql:dbname=' . getenv('PGDATABASE'), $user ?? getenv('PGUSER'), $password ?? getenv('PGPASSWORD'));
    $pdo->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
    foreach ($attributes as $attribute => $value) {
        $pdo->setAttribute($attribute, $value);
    }
    return $pdo;
}

function one(PDO $pdo, string $query, array $args = [])
{
    $statement = $pdo->prepare($query);
    $statement->execute($args);
    return $statement->fetchColumn();
}

function raises(string $state, callable $body): string
{
    try {
        $body();
    } catch (PDOException $e) {
        equal($e->errorInfo[0], $state);
        return $e->getMessage();
    }
    throw new Exception("no error, want $state");
}

// each way that PDO sends a statement with values.
$ways = [
    'native' => connect(),
    'emulated' => connect([PDO::ATTR_EMULATE_PREPARES => true]),
    'unnamed' => connect([PDO::PGSQL_ATTR_DISABLE_PREPARES => true]),
];
$pdo = $ways['native'];

feature('put', function () use ($ways, $pdo) {
    equal(one($pdo, PUT, [PREFIX . '/canary', CANARY]), 1);
    foreach ($ways as $way => $conn) {
        foreach (['0', CANARY . "\n\t", str_repeat('x', 400000)] as $n => $value) {
            equal(one($conn, PUT, [PREFIX . "/put/$way", $value]), $n + 1);
            equal(one($conn, READ, [PREFIX . "/put/$way"]), $value);
        }
        $named = $conn->prepare('SELECT vault.put_secret(:name, :value)');
        $named->bindValue('name', PREFIX . "/put/$way");
        $named->bindValue('value', CANARY);
        $named->execute();
        equal($named->fetchColumn(), 4);
    }
    equal($pdo->query('SELECT vault.put_secret(' . $pdo->quote(PREFIX . '/put/native') . ', ' . $pdo->quote(CANARY) . ')')->fetchColumn(), 5);
});

feature('read text', function () use ($ways) {
    foreach ($ways as $conn) {
        $statement = $conn->prepare('SELECT 1 AS n, vault.read_secret(?) AS pw, now()');
        $statement->execute([PREFIX . '/canary']);
        $meta = $statement->getColumnMeta(1);
        equal([$meta['name'], $meta['native_type'], $meta['pgsql:oid']], ['pw', 'text', 25]);
        equal(array_slice($statement->fetch(PDO::FETCH_NUM), 0, 2), [1, CANARY]);
    }
});

feature('prepare', function () use ($ways) {
    foreach ($ways as $way => $conn) {
        [$read, $put] = [$conn->prepare(READ), $conn->prepare(PUT)];
        for ($n = 1; $n <= 8; $n++) {
            $read->execute([PREFIX . '/canary']);
            equal($read->fetchColumn(), CANARY);
            $put->execute([PREFIX . "/prepared/$way", CANARY . $n]);
            equal($put->fetchColumn(), $n);
        }
        equal(one($conn, READ, [PREFIX . "/prepared/$way"]), CANARY . '8');
    }
});

feature('batch', function () use ($pdo) {
    $put = fn ($n) => 'SELECT vault.put_secret(' . $pdo->quote(PREFIX . "/batch$n") . ', ' . $pdo->quote(CANARY . $n) . ')';
    $pdo->exec(implode('; ', array_map($put, range(1, 50))));
    foreach ([1, 25, 50] as $n) {
        equal(one($pdo, READ, [PREFIX . "/batch$n"]), CANARY . $n);
    }
    raises('22023', fn () => $pdo->exec($put(1) . "; SELECT vault.put_secret('bad name', 'x')"));
    equal(one($pdo, 'SELECT max(version) FROM vault.list_versions(?)', [PREFIX . '/batch1']), 1);
});

feature('cursor', function () use ($ways) {
    foreach ($ways as $conn) {
        $conn->beginTransaction();
        $cursor = $conn->prepare('SELECT g, vault.read_secret(?) FROM generate_series(1, 50) g', [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
        // Its cursor is a DECLARE: the name is no secret, and may stand in it.
        $cursor->execute([PREFIX . '/canary']);
        for ($g = 1; $g <= 50; $g++) {
            equal($cursor->fetch(PDO::FETCH_NUM), [$g, CANARY]);
        }
        equal($cursor->fetch(PDO::FETCH_NUM, PDO::FETCH_ORI_ABS, 7), [7, CANARY]);
        $cursor->closeCursor();
        $conn->commit();
    }
});

feature('copy in', function () use ($pdo) {
    $pdo->exec('CREATE TEMP TABLE copied (id int, t text)');
    equal($pdo->pgsqlCopyFromArray('copied', array_map(fn ($i) => "$i\trow $i\n", range(1, 20000))), true);
    equal(one($pdo, 'SELECT count(*) FROM copied'), 20000);
    raises('22P02', fn () => $pdo->pgsqlCopyFromArray('copied', ["bad\tx\n"]));
    equal(one($pdo, 'SELECT count(*) FROM copied'), 20000);
});

feature('copy out', function () use ($pdo) {
    $pdo->exec('CREATE TEMP TABLE numbers AS SELECT g FROM generate_series(1, 20000) g');
    equal(implode('', $pdo->pgsqlCopyToArray('numbers')), implode('', array_map(fn ($g) => "$g\n", range(1, 20000))));
    equal(substr($pdo->pgsqlCopyToArray("(SELECT vault.read_secret('" . PREFIX . "/canary'))")[0], 0, 4), 'hv1.');
});

feature('transaction', function () use ($ways) {
    foreach ($ways as $way => $conn) {
        $name = PREFIX . "/transaction/$way";
        $conn->beginTransaction();
        equal(one($conn, PUT, [$name, CANARY]), 1);
        equal(one($conn, READ, [$name]), CANARY);
        $conn->rollBack();
        raises('P0002', fn () => one($conn, READ, [$name]));
        $conn->beginTransaction();
        equal(one($conn, PUT, [$name, CANARY]), 1);
        $conn->commit();
        equal(one($conn, READ, [$name]), CANARY);
    }
});

feature('savepoint', function () use ($ways) {
    foreach ($ways as $way => $conn) {
        $conn->beginTransaction();
        equal(one($conn, PUT, [PREFIX . "/savepoint/$way", CANARY]), 1);
        foreach ([['XX001', READ, [getenv('BROKEN')]], ['22023', PUT, ['bad name', CANARY]], ['22012', 'SELECT 1/0', []]] as [$state, $query, $args]) {
            $conn->exec('SAVEPOINT s');
            raises($state, fn () => one($conn, $query, $args));
            raises('25P02', fn () => $conn->query('SELECT 1'));
            $conn->exec('ROLLBACK TO s');
            equal(one($conn, READ, [PREFIX . "/savepoint/$way"]), CANARY);
        }
        $conn->commit();
    }
});

feature('error', function () use ($ways) {
    foreach ($ways as $conn) {
        foreach ([
            ['P0002', READ, ['none']],
            ['22023', PUT, ['bad name', CANARY]],
            ['22004', PUT, [PREFIX . '/error', null]],
            ['0A000', 'SELECT vault.put_secret(?, upper(?))', [PREFIX . '/error', CANARY]],
            ['42883', 'SELECT vault.putsecret(?, ?)', [PREFIX . '/error', CANARY]],
            ['42601', 'SELECT 1 +', []],
        ] as [$state, $query, $args]) {
            equal(str_contains(raises($state, fn () => one($conn, $query, $args)), CANARY), false);
            equal(one($conn, 'SELECT 1'), 1);
        }
    }
});

feature('notify', function () use ($pdo) {
    $pdo->exec('LISTEN phppdo_channel');
    $pdo->exec("NOTIFY phppdo_channel, 'mine'");
    equal($pdo->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000)['payload'], 'mine');
    $other = connect();
    $pid = one($other, "SELECT pg_backend_pid() FROM pg_notify('phppdo_channel', 'theirs')");
    $heard = $pdo->pgsqlGetNotify(PDO::FETCH_ASSOC, 60000);
    equal([$heard['payload'], $heard['pid']], ['theirs', $pid]);
});

feature('large object', function () use ($pdo) {
    $pdo->beginTransaction();
    $oid = $pdo->pgsqlLOBCreate();
    $large = $pdo->pgsqlLOBOpen($oid, 'w');
    $content = str_repeat('large', 100000);
    for ($at = 0; $at < strlen($content); $at += $n) {
        $n = fwrite($large, substr($content, $at));
    }
    $large = null;
    equal(stream_get_contents($pdo->pgsqlLOBOpen($oid, 'r')), $content);
    equal($pdo->pgsqlLOBUnlink($oid), true);
    $pdo->commit();
});

run();
