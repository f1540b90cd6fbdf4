// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
// node-postgres: the extended protocol wherever there are parameters, and Query
// messages where there are none.
const { deepStrictEqual: equal, ok } = require("node:assert");
const { once } = require("node:events");
const { Client, Pool } = require("pg");
const Cursor = require("pg-cursor");
const QueryStream = require("pg-query-stream");
const { Suite, raises } = require("../tap.js");

const { PREFIX, CANARY, BROKEN, SUPERUSER, SUPERPASSWORD } = process.env;
const PUT = "SELECT vault.put_secret($1, $2)";
const READ = "SELECT vault.read_secret($1) AS pw";
const suite = new Suite();
let conn;

async function connect(options = {}) {
  const client = new Client(options);
  await client.connect();
  return client;
}

async function one(client, text, values) {
  const result = await client.query({ text, values, rowMode: "array" });
  return result.rows[0][0];
}

suite.feature("put", async () => {
  conn = await connect();
  equal(await one(conn, PUT, [`${PREFIX}/canary`, CANARY]), 1);
  let version = 0;
  for (const value of ["0", `${CANARY}\n\t`, "x".repeat(400_000)]) {
    equal(await one(conn, PUT, [`${PREFIX}/put`, value]), ++version);
    equal(await one(conn, READ, [`${PREFIX}/put`]), value);
  }
  const literals = [conn.escapeLiteral(`${PREFIX}/put`), conn.escapeLiteral(CANARY)];
  equal(await one(conn, `SELECT vault.put_secret(${literals})`), 4);
});

suite.feature("read text", async () => {
  const result = await conn.query("SELECT 1 AS n, vault.read_secret($1) AS pw, now()", [`${PREFIX}/canary`]);
  equal(result.fields[1].name, "pw");
  equal(result.fields[1].dataTypeID, 25);
  equal(result.rows[0].pw, CANARY);
  equal(await one(conn, `SELECT vault.read_secret('${PREFIX}/canary')`), CANARY);
});

suite.feature("prepare", async () => {
  for (let n = 0; n < 8; n++) {
    const read = await conn.query({ name: "read", text: READ, values: [`${PREFIX}/canary`] });
    equal(read.rows[0].pw, CANARY);
    const put = await conn.query({ name: "put", text: PUT, values: [`${PREFIX}/prepared`, `${CANARY} ${n}`] });
    equal(put.rows[0].put_secret, n + 1);
  }
  equal(await one(conn, READ, [`${PREFIX}/prepared`]), `${CANARY} 7`);
});

suite.feature("batch", async () => {
  const names = Array.from({ length: 50 }, (_, i) => `${PREFIX}/batch${i}`);
  const puts = names.map((name) => `SELECT vault.put_secret('${name}', ${conn.escapeLiteral(CANARY + name)})`);
  const results = await conn.query(`${puts.join(";")}; SELECT vault.read_secret('${names[49]}') AS pw`);
  equal(results.map((r) => r.rows.length), Array(51).fill(1));
  equal(results[50].rows[0].pw, CANARY + names[49]);
  await Promise.all(names.map((name) => conn.query(PUT, [name, CANARY]))); // it queues them
  for (const name of names) equal(await one(conn, READ, [name]), CANARY);
  await raises("22023", conn.query(`${puts[0]}; SELECT vault.put_secret('bad name', 'x')`));
  equal(await one(conn, READ, [names[0]]), CANARY);
});

suite.feature("cursor", async () => {
  const text = "SELECT g, vault.read_secret($1) FROM generate_series(1, 50) g";
  const want = Array.from({ length: 50 }, (_, i) => [i + 1, CANARY]);
  const cursor = conn.query(new Cursor(text, [`${PREFIX}/canary`], { rowMode: "array" }));
  const got = [];
  for (;;) {
    const rows = await cursor.read(7);
    if (rows.length === 0) break;
    got.push(...rows);
  }
  await cursor.close();
  equal(got, want);
  const early = conn.query(new Cursor(text, [`${PREFIX}/canary`], { rowMode: "array" }));
  equal(await early.read(3), want.slice(0, 3));
  await early.close();
  const streamed = [];
  for await (const row of conn.query(new QueryStream(text, [`${PREFIX}/canary`], { rowMode: "array", batchSize: 9 }))) streamed.push(row);
  equal(streamed, want);
});

suite.feature("transaction", async () => {
  const block = await connect();
  await block.query("BEGIN");
  equal(await one(block, PUT, [`${PREFIX}/transaction`, CANARY]), 1);
  equal(await one(block, READ, [`${PREFIX}/transaction`]), CANARY);
  await block.query("ROLLBACK");
  await raises("P0002", one(block, READ, [`${PREFIX}/transaction`]));
  await block.query("BEGIN");
  equal(await one(block, PUT, [`${PREFIX}/transaction`, CANARY]), 1);
  await block.query("COMMIT");
  equal(await one(conn, READ, [`${PREFIX}/transaction`]), CANARY);
  await block.end();
});

suite.feature("savepoint", async () => {
  await conn.query("BEGIN");
  equal(await one(conn, PUT, [`${PREFIX}/savepoint`, CANARY]), 1);
  for (const [text, values, state] of [[READ, [BROKEN], "XX001"], [PUT, ["bad name", CANARY], "22023"], ["SELECT 1/0", [], "22012"]]) {
    await conn.query("SAVEPOINT s");
    await raises(state, one(conn, text, values));
    await raises("25P02", one(conn, "SELECT 1"));
    await conn.query("ROLLBACK TO s");
    equal(await one(conn, READ, [`${PREFIX}/savepoint`]), CANARY);
  }
  await conn.query("COMMIT");
});

suite.feature("error", async () => {
  for (const [text, values, state] of [
    [READ, ["none"], "P0002"],
    [PUT, ["bad name", CANARY], "22023"],
    [PUT, [`${PREFIX}/error`, null], "22004"],
    ["SELECT vault.put_secret($1, upper($2))", [`${PREFIX}/error`, CANARY], "0A000"],
    ["SELECT vault.putsecret($1, $2)", [`${PREFIX}/error`, CANARY], "42883"],
    ["SELECT 1 +", [], "42601"],
  ]) {
    const said = await raises(state, one(conn, text, values));
    ok(!JSON.stringify(said).includes(CANARY), "the error tells the value");
    equal(await one(conn, "SELECT 1"), 1);
  }
});

suite.feature("cancel", async () => {
  const watcher = await connect({ user: SUPERUSER, password: SUPERPASSWORD });
  await conn.query(`SET application_name = '${PREFIX}'`);
  const sleeping = raises("57014", one(conn, "SELECT pg_sleep(600)"));
  const running = "SELECT count(*)::int FROM activity WHERE application_name = $1 AND wait_event = 'PgSleep'";
  while ((await one(watcher, running, [PREFIX])) === 0);
  await watcher.end();
  new Client().cancel(conn, conn.activeQuery);
  await sleeping;
  equal(await one(conn, READ, [`${PREFIX}/canary`]), CANARY);
});

suite.feature("notify", async () => {
  await conn.query("LISTEN nodepg_channel");
  let heard = once(conn, "notification");
  await conn.query("NOTIFY nodepg_channel, 'mine'");
  let [message] = await heard;
  equal([message.payload, message.processId], ["mine", conn.processID]);
  heard = once(conn, "notification");
  const other = await connect();
  const pid = await one(other, "SELECT pg_backend_pid() FROM pg_notify('nodepg_channel', 'theirs')");
  [message] = await heard;
  equal([message.payload, message.processId], ["theirs", pid]);
  await other.end();
});

suite.feature("pool of clients", async () => {
  const pool = new Pool({ max: 4 });
  const reads = Array.from({ length: 40 }, () => pool.query(READ, [`${PREFIX}/canary`]));
  for (const result of await Promise.all(reads)) equal(result.rows[0].pw, CANARY);
  await pool.end();
});

suite.run(() => conn.end());
