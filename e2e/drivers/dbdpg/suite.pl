# SPDX-License-Identifier: GPL-3.0-or-later
# DBD::Pg: prepares on the server by itself; text format but for bytea.
use strict;
use warnings;
use utf8;
use Encode qw(decode);
use DBI;
use DBD::Pg qw(:async :pg_types);
use FindBin;
use lib "$FindBin::Bin/..";
use Tap qw(feature run equal);

my ($PREFIX, $CANARY, $BROKEN) = map { decode('UTF-8', $ENV{$_}) } qw(PREFIX CANARY BROKEN);
my $PUT  = 'SELECT vault.put_secret(?, ?)';
my $READ = 'SELECT vault.read_secret(?) AS pw';

sub connection {
    my ($user, $password) = @_;
    return DBI->connect('dbi:Pg:', $user, $password, { RaiseError => 1, PrintError => 0, PrintWarn => 0, AutoCommit => 1, pg_enable_utf8 => 1 });
}

sub one {
    my ($db, $query, @args) = @_;
    return ($db->selectrow_array($query, undef, @args))[0];
}

sub raises {
    my ($state, $body) = @_;
    eval { $body->(); 1 } and die "no error, want $state\n";
    my $said = $@;
    equal($DBI::state, $state);
    return $said;
}

my $db = connection();

feature 'put' => sub {
    equal(one($db, $PUT, "$PREFIX/canary", $CANARY), 1);
    my $version = 0;
    for my $value ('0', "$CANARY\n\t", 'x' x 400_000) {
        equal(one($db, $PUT,  "$PREFIX/put", $value), ++$version);
        equal(one($db, $READ, "$PREFIX/put"), $value);
    }
    equal(one($db, 'SELECT vault.put_secret(' . join(', ', map { $db->quote($_) } "$PREFIX/put", $CANARY) . ')'), 4);
    equal(one($db, 'SELECT vault.put_secret($1, $2)', "$PREFIX/put", $CANARY), 5);
    my $named = $db->prepare('SELECT vault.put_secret(:name, :value)');
    $named->bind_param(':name', "$PREFIX/put");
    $named->bind_param(':value', $CANARY);
    $named->execute;
    equal($named->fetchrow_array, 6);
};

feature 'read text' => sub {
    my $read = $db->prepare('SELECT 1 AS n, vault.read_secret(?) AS pw, now()');
    $read->execute("$PREFIX/canary");
    equal($read->{NAME}[1], 'pw');
    equal($read->{pg_type}[1], 'text');
    my @row = $read->fetchrow_array;
    $read->finish;
    equal("@row[0, 1]", "1 $CANARY");
};

feature 'prepare' => sub {
    my ($read, $put) = map { $db->prepare($_, { pg_server_prepare => 1, pg_switch_prepared => 1 }) } $READ, $PUT;
    for my $n (1 .. 8) {
        equal($db->selectrow_array($read, undef, "$PREFIX/canary"), $CANARY);
        equal($db->selectrow_array($put, undef, "$PREFIX/prepared", "$CANARY $n"), $n);
    }
    equal(one($db, 'SELECT count(*) FROM pg_prepared_statements WHERE name LIKE ? AND NOT from_sql', 'dbdpg%') >= 1, 1);
    equal(one($db, $READ, "$PREFIX/prepared"), "$CANARY 8");
};

feature 'without preparing' => sub {
    local $db->{pg_server_prepare} = 0;
    equal(one($db, $PUT, "$PREFIX/unprepared", $CANARY), 1);
    equal(one($db, $READ, "$PREFIX/unprepared"), $CANARY);
};

feature 'batch' => sub {
    my $put = $db->prepare($PUT);
    my @names = map { "$PREFIX/batch$_" } 1 .. 100;
    equal($put->execute_array({ ArrayTupleStatus => \my @done }, \@names, [ map { "$CANARY$_" } @names ]), 100);
    equal(one($db, $READ, $_), "$CANARY$_") for @names[ 0, 50, 99 ];
    $db->do('SELECT vault.put_secret(' . join(', ', map { $db->quote($_) } @$_) . '); SELECT 1') for [ $names[0], $CANARY ];
    equal(one($db, $READ, $names[0]), $CANARY);
};

feature 'cursor' => sub {
    $db->begin_work;
    $db->do('DECLARE c CURSOR FOR SELECT g, vault.read_secret(?) FROM generate_series(1, 50) g', undef, "$PREFIX/canary");
    my @got;
    while (my @rows = @{ $db->selectall_arrayref('FETCH 7 FROM c') }) {
        push @got, map { "@$_" } @rows;
    }
    $db->commit;
    equal(join(',', @got), join(',', map { "$_ $CANARY" } 1 .. 50));
};

feature 'copy in' => sub {
    $db->do('CREATE TEMP TABLE copied (id int, t text)');
    $db->do('COPY copied FROM STDIN');
    $db->pg_putcopydata("$_\trow $_\n") for 1 .. 20_000;
    $db->pg_putcopyend;
    equal(one($db, 'SELECT count(*) FROM copied'), 20_000);
    $db->do('COPY copied FROM STDIN');
    $db->pg_putcopydata("bad\tx\n");
    raises('22P02', sub { $db->pg_putcopyend });
    equal(one($db, 'SELECT count(*) FROM copied'), 20_000);
};

feature 'copy out' => sub {
    my ($out, $row) = ('');
    $db->do('COPY (SELECT g FROM generate_series(1, 20000) g) TO STDOUT');
    $out .= $row while $db->pg_getcopydata($row) >= 0;
    equal($out, join('', map { "$_\n" } 1 .. 20_000));
    $db->do("COPY (SELECT vault.read_secret('$PREFIX/canary')) TO STDOUT");
    $db->pg_getcopydata($row);
    equal(substr($row, 0, 4), 'hv1.');
    equal($db->pg_getcopydata($row), -1);
};

feature 'transaction' => sub {
    $db->begin_work;
    equal(one($db, $PUT,  "$PREFIX/transaction", $CANARY), 1);
    equal(one($db, $READ, "$PREFIX/transaction"), $CANARY);
    $db->rollback;
    raises('P0002', sub { one($db, $READ, "$PREFIX/transaction") });
    $db->begin_work;
    equal(one($db, $PUT, "$PREFIX/transaction", $CANARY), 1);
    $db->commit;
    equal(one($db, $READ, "$PREFIX/transaction"), $CANARY);
};

feature 'savepoint' => sub {
    $db->begin_work;
    equal(one($db, $PUT, "$PREFIX/savepoint", $CANARY), 1);
    for my $case ([ 'XX001', $READ, $BROKEN ], [ '22023', $PUT, 'bad name', $CANARY ], [ '22012', 'SELECT 1/0' ]) {
        my ($state, @query) = @$case;
        $db->pg_savepoint('s');
        raises($state, sub { one($db, @query) });
        equal($db->ping, 4);    # in a failed transaction
        $db->pg_rollback_to('s');
        equal(one($db, $READ, "$PREFIX/savepoint"), $CANARY);
    }
    $db->commit;
};

feature 'error' => sub {
    for my $case (
        [ 'P0002', $READ, 'none' ],
        [ '22023', $PUT, 'bad name', $CANARY ],
        [ '22004', $PUT, "$PREFIX/error", undef ],
        [ '0A000', 'SELECT vault.put_secret(?, upper(?))', "$PREFIX/error", $CANARY ],
        [ '42883', 'SELECT vault.putsecret(?, ?)', "$PREFIX/error", $CANARY ],
        [ '42601', 'SELECT 1 +' ],
      )
    {
        my ($state, @query) = @$case;
        my $said = raises($state, sub { one($db, @query) });
        die "the error tells the value\n" if index($said, $CANARY) >= 0;
        equal(one($db, 'SELECT 1'), 1);
    }
};

feature 'cancel' => sub {
    $db->do("SET application_name = '$PREFIX'");
    my $sleep = $db->prepare('SELECT pg_sleep(600)', { pg_async => PG_ASYNC });
    $sleep->execute;
    my $watcher = connection(@ENV{qw(SUPERUSER SUPERPASSWORD)});
    until (one($watcher, "SELECT count(*) FROM activity WHERE application_name = ? AND wait_event = 'PgSleep'", $PREFIX)) { }
    equal($sleep->pg_ready ? 'ready' : 'running', 'running');
    equal($db->pg_cancel, 1);
    $watcher->disconnect;
    my $read = $db->prepare($READ, { pg_async => PG_ASYNC });
    $read->execute("$PREFIX/canary");
    equal($read->pg_result, 1);
    equal($read->fetchrow_array, $CANARY);
};

feature 'notify' => sub {
    $db->do('LISTEN dbdpg_channel');
    $db->do(q{NOTIFY dbdpg_channel, 'mine'});
    equal(join(' ', @{ $db->pg_notifies }), "dbdpg_channel $db->{pg_pid} mine");
    my $other = connection();
    my $pid = one($other, q{SELECT pg_backend_pid() FROM pg_notify('dbdpg_channel', 'theirs')});
    my $heard;
    until ($heard = $db->pg_notifies) { $db->ping }
    equal("@$heard", "dbdpg_channel $pid theirs");
    $other->disconnect;
};

feature 'large object' => sub {
    $db->begin_work;
    my $oid = $db->pg_lo_creat($db->{pg_INV_WRITE} | $db->{pg_INV_READ});
    my $large = $db->pg_lo_open($oid, $db->{pg_INV_WRITE});
    equal($db->pg_lo_write($large, 'large' x 100_000, 500_000), 500_000);
    $db->pg_lo_close($large);
    $large = $db->pg_lo_open($oid, $db->{pg_INV_READ});
    my $content = '';
    equal($db->pg_lo_read($large, $content, 500_000), 500_000);
    equal($content, 'large' x 100_000);
    $db->pg_lo_close($large);
    equal($db->pg_lo_unlink($oid), 1);
    $db->commit;
};

run;
