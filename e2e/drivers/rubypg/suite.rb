# SPDX-License-Identifier: GPL-3.0-or-later
# ruby-pg: all of libpq, in both formats.
require 'pg'
require_relative '../tap'

PREFIX, CANARY, BROKEN = ENV.values_at('PREFIX', 'CANARY', 'BROKEN')
PUT = 'SELECT vault.put_secret($1, $2)'.freeze
READ = 'SELECT vault.read_secret($1) AS pw'.freeze
TEXT, BINARY = 0, 1

def connect(**options)
  PG.connect(**options).tap { |c| c.set_notice_processor { |_| } }
end

def one(conn, query, args = [], format = TEXT)
  (args.empty? ? conn.exec(query) : conn.exec_params(query, args, format)).getvalue(0, 0)
end

def raises(state)
  yield
rescue PG::Error => e
  equal(e.result.error_field(PG::PG_DIAG_SQLSTATE), state)
  e
else
  raise "no error, want #{state}"
end

conn = connect
suite = Suite.new

suite.feature('put') do
  equal(one(conn, PUT, ["#{PREFIX}/canary", CANARY]), '1')
  ['0', "#{CANARY}\n\t", 'x' * 400_000].each.with_index(1) do |value, version|
    equal(one(conn, PUT, ["#{PREFIX}/put", value]), version.to_s)
    equal(one(conn, READ, ["#{PREFIX}/put"]), value)
  end
  literals = ["#{PREFIX}/put", CANARY].map { |s| conn.escape_literal(s) }.join(', ')
  equal(one(conn, "SELECT vault.put_secret(#{literals})"), '4')
  binary = ["#{PREFIX}/put", CANARY].map { |value| { value: value, format: BINARY, type: 25 } }
  equal(one(conn, PUT, binary), '5')
end

suite.feature('read text') do
  result = conn.exec_params('SELECT 1 AS n, vault.read_secret($1) AS pw, now()', ["#{PREFIX}/canary"])
  equal([result.fname(1), result.ftype(1), result.fformat(1)], ['pw', 25, TEXT])
  equal(result.values[0][0, 2], ['1', CANARY])
end

suite.feature('read binary') do
  result = conn.exec_params('SELECT 258 AS n, vault.read_secret($1) AS pw', ["#{PREFIX}/canary"], BINARY)
  equal([result.ftype(1), result.fformat(1)], [25, BINARY])
  equal([result.getvalue(0, 0).unpack1('N'), result.getvalue(0, 1).dup.force_encoding('UTF-8')], [258, CANARY])
end

suite.feature('prepare') do
  conn.prepare('read', READ)
  conn.prepare('put', PUT)
  equal(conn.describe_prepared('read').ftype(0), 25)
  equal(conn.describe_prepared('put').nparams, 2)
  8.times do |n|
    equal(conn.exec_prepared('read', ["#{PREFIX}/canary"]).getvalue(0, 0), CANARY)
    equal(conn.exec_prepared('put', ["#{PREFIX}/prepared", "#{CANARY} #{n}"]).getvalue(0, 0), (n + 1).to_s)
  end
  equal(one(conn, READ, ["#{PREFIX}/prepared"]), "#{CANARY} 7")
  conn.exec('DEALLOCATE ALL')
end

suite.feature('pipeline') do
  conn.enter_pipeline_mode
  conn.send_query_params('SELECT 1', [])
  conn.send_query_params(PUT, ["#{PREFIX}/pipeline", CANARY])
  conn.send_query_params(READ, ["#{PREFIX}/pipeline"])
  conn.pipeline_sync
  conn.send_query_params(PUT, ['bad name', CANARY])
  conn.send_query_params('SELECT 2', [])
  conn.pipeline_sync
  conn.send_query_params(READ, ["#{PREFIX}/canary"])
  conn.pipeline_sync
  got = []
  until got.count(:sync) == 3
    result = conn.get_result or next
    got << case result.result_status
           when PG::PGRES_PIPELINE_SYNC then :sync
           when PG::PGRES_PIPELINE_ABORTED then :skipped
           when PG::PGRES_FATAL_ERROR then result.error_field(PG::PG_DIAG_SQLSTATE)
           else result.getvalue(0, 0)
           end
  end
  conn.exit_pipeline_mode
  equal(got, ['1', '1', CANARY, :sync, '22023', :skipped, :sync, CANARY, :sync])
end

suite.feature('cursor') do
  conn.transaction do
    conn.exec_params('DECLARE c CURSOR FOR SELECT g, vault.read_secret($1) FROM generate_series(1, 50) g', ["#{PREFIX}/canary"])
    got = []
    until (rows = conn.exec('FETCH 7 FROM c').values).empty?
      got.concat(rows)
    end
    equal(got, (1..50).map { |g| [g.to_s, CANARY] })
  end
  conn.send_query_params('SELECT g, vault.read_secret($1) FROM generate_series(1, 50) g', ["#{PREFIX}/canary"])
  conn.set_single_row_mode
  got = []
  while (result = conn.get_result)
    got.concat(result.check.values)
  end
  equal(got, (1..50).map { |g| [g.to_s, CANARY] })
end

suite.feature('copy in') do
  conn.exec('CREATE TEMP TABLE copied (id int, t text)')
  conn.copy_data('COPY copied FROM STDIN') { 20_000.times { |i| conn.put_copy_data("#{i}\trow #{i}\n") } }
  equal(one(conn, 'SELECT count(*) FROM copied'), '20000')
  raises('22P02') { conn.copy_data('COPY copied FROM STDIN') { conn.put_copy_data("bad\tx\n") } }
  row = PG::TextEncoder::CopyRow.new
  conn.copy_data('COPY copied FROM STDIN', row) { conn.put_copy_data([7, "seven\t\n"]) }
  equal(one(conn, "SELECT t FROM copied WHERE t LIKE 'seven%'"), "seven\t\n")
  begin
    conn.copy_data('COPY copied FROM STDIN') { raise 'given up' }
  rescue RuntimeError => e
    equal(e.message, 'given up')
  end
  equal(one(conn, 'SELECT count(*) FROM copied'), '20001')
end

suite.feature('copy out') do
  out = +''
  conn.copy_data('COPY (SELECT g FROM generate_series(1, 20000) g) TO STDOUT') do
    while (row = conn.get_copy_data)
      out << row
    end
  end
  equal(out, (1..20_000).map { |g| "#{g}\n" }.join)
  conn.copy_data("COPY (SELECT vault.read_secret('#{PREFIX}/canary')) TO STDOUT") do
    equal(conn.get_copy_data[0, 4], 'hv1.')
    equal(conn.get_copy_data, nil)
  end
end

suite.feature('transaction') do
  begin
    conn.transaction do
      equal(one(conn, PUT, ["#{PREFIX}/transaction", CANARY]), '1')
      equal(one(conn, READ, ["#{PREFIX}/transaction"]), CANARY)
      raise 'given up'
    end
  rescue RuntimeError => e
    equal(e.message, 'given up')
  end
  raises('P0002') { one(conn, READ, ["#{PREFIX}/transaction"]) }
  conn.transaction { equal(one(conn, PUT, ["#{PREFIX}/transaction", CANARY]), '1') }
  equal(one(conn, READ, ["#{PREFIX}/transaction"]), CANARY)
end

suite.feature('savepoint') do
  conn.exec('BEGIN')
  equal(one(conn, PUT, ["#{PREFIX}/savepoint", CANARY]), '1')
  [[READ, [BROKEN], 'XX001'], [PUT, ['bad name', CANARY], '22023'], ['SELECT 1/0', [], '22012']].each do |query, args, state|
    conn.exec('SAVEPOINT s')
    raises(state) { one(conn, query, args) }
    equal(conn.transaction_status, PG::PQTRANS_INERROR)
    conn.exec('ROLLBACK TO s')
    equal(one(conn, READ, ["#{PREFIX}/savepoint"]), CANARY)
  end
  conn.exec('COMMIT')
end

suite.feature('error') do
  [
    [READ, ['none'], 'P0002'],
    [PUT, ['bad name', CANARY], '22023'],
    [PUT, ["#{PREFIX}/error", nil], '22004'],
    ['SELECT vault.put_secret($1, upper($2))', ["#{PREFIX}/error", CANARY], '0A000'],
    ['SELECT vault.putsecret($1, $2)', ["#{PREFIX}/error", CANARY], '42883'],
    ['SELECT 1 +', [], '42601']
  ].each do |query, args, state|
    said = raises(state) { one(conn, query, args) }
    raise 'the error tells the value' if said.message.include?(CANARY)

    equal(one(conn, 'SELECT 1'), '1')
  end
end

suite.feature('cancel') do
  conn.exec("SET application_name = '#{PREFIX}'")
  conn.send_query('SELECT pg_sleep(600)')
  watcher = connect(user: ENV.fetch('SUPERUSER'), password: ENV.fetch('SUPERPASSWORD'))
  running = "SELECT count(*) FROM activity WHERE application_name = $1 AND wait_event = 'PgSleep'"
  nil while one(watcher, running, [PREFIX]) == '0'
  watcher.close
  equal(conn.cancel, nil)
  raises('57014') { conn.get_last_result }
  equal(one(conn, READ, ["#{PREFIX}/canary"]), CANARY)
end

suite.feature('notify') do
  conn.exec('LISTEN rubypg_channel')
  conn.exec("NOTIFY rubypg_channel, 'mine'")
  equal(conn.notifies.values_at(:extra, :be_pid), ['mine', conn.backend_pid])
  other = connect
  from = one(other, "SELECT pg_backend_pid() FROM pg_notify('rubypg_channel', 'theirs')")
  conn.wait_for_notify { |_, pid, payload| equal([payload, pid.to_s], ['theirs', from]) }
  other.close
end

suite.feature('large object') do
  conn.transaction do
    oid = conn.lo_creat
    large = conn.lo_open(oid, PG::INV_WRITE | PG::INV_READ)
    conn.lo_write(large, 'large' * 100_000)
    conn.lo_lseek(large, 0, PG::SEEK_SET)
    equal(conn.lo_read(large, 500_000), 'large' * 100_000)
    conn.lo_close(large)
    conn.lo_unlink(oid)
  end
end

suite.run
