// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** Many executions in one round trip. */
final class Batches extends Session {
  private static final int SIZE = 150;

  Batches(Connection conn, String dir) {
    super(conn, dir);
  }

  /** Different statements before one Sync. */
  void pipeline() throws SQLException {
    // A constant that reads the same whatever the statements before it have set; the others go as parameters.
    String plain = Suite.CANARY.replaceAll("[^ -~]|['\\\\]", "");
    String name = literal(dir + "pipeline");
    run("CREATE TEMP TABLE pipeline (v int)");
    try (PreparedStatement s = conn.prepareStatement("INSERT INTO pipeline SELECT vault.put_secret(?, ?); "
        + "SELECT vault.read_secret(?), 7; UPDATE pipeline SET v = v + 1000; SELECT vault.read_secret(?)")) {
      for (int i = 1; i <= 8; i++) {
        s.setString(1, dir + "pipeline");
        s.setString(2, Suite.CANARY + i);
        s.setString(3, dir + "pipeline");
        s.setString(4, dir + "pipeline");
        Tap.check(!s.execute(), "rows of an INSERT");
        Tap.equal(1, s.getUpdateCount());
        Tap.check(s.getMoreResults(), "no second result");
        Tap.equal(Suite.CANARY + i, value(s));
        Tap.check(!s.getMoreResults(), "rows of an UPDATE");
        Tap.equal(i, s.getUpdateCount());
        Tap.check(s.getMoreResults(), "no fourth result");
        Tap.equal(Suite.CANARY + i, value(s));
      }
    }
    conn.setAutoCommit(false);
    try (Statement s = conn.createStatement()) {
      for (int i = 9; i <= 30; i++) {
        s.addBatch("INSERT INTO pipeline SELECT vault.put_secret(" + name + ", " + literal(plain + i) + ")");
        s.addBatch("UPDATE pipeline SET v = 0 WHERE v = " + i);
      }
      for (int count : s.executeBatch()) {
        Tap.equal(1, count);
      }
      conn.commit();
      s.addBatch("INSERT INTO pipeline SELECT vault.put_secret(" + name + ", " + literal(plain + "undone") + ")");
      s.addBatch("INSERT INTO pipeline SELECT 1/0");
      s.addBatch("INSERT INTO pipeline SELECT vault.put_secret(" + name + ", " + literal(plain + "undone") + ")");
      Tap.fails("22012", s::executeBatch);
    }
    conn.rollback();
    conn.setAutoCommit(true);
    Tap.equal(plain + "30", read("pipeline"));
    Tap.equal("30", text("SELECT count(*) FROM pipeline"));
    run("DROP TABLE pipeline");
  }

  private static String value(Statement s) throws SQLException {
    ResultSet rows = s.getResultSet();
    Tap.check(rows.next(), "no row");
    return rows.getString(1);
  }

  void batch() throws SQLException {
    run("CREATE TEMP TABLE batch (v int)");
    try (PreparedStatement put = conn.prepareStatement("INSERT INTO batch SELECT vault.put_secret(?, ?)")) {
      for (int i = 0; i < SIZE; i++) {
        add(put, "batch", i);
      }
      Tap.equal(SIZE, put.executeBatch().length);
      conn.setAutoCommit(false); // in simple mode each is a message, and a transaction, of its own
      add(put, "batch", SIZE);
      put.setString(1, "bad name");
      put.addBatch();
      Tap.fails("22023", put::executeBatch);
      conn.rollback();
      conn.setAutoCommit(true);
    }
    Tap.equal(SIZE + " " + SIZE, text("SELECT count(*) || ' ' || max(v) FROM batch"));
    Tap.equal(Suite.CANARY + (SIZE - 1), read("batch"));
    run("DROP TABLE batch");
  }

  /** reWriteBatchedInserts makes one INSERT of up to 128 rows. */
  void rewritten() throws SQLException {
    run("CREATE TEMP TABLE rewritten (name text, v int)");
    try (PreparedStatement put = conn.prepareStatement("INSERT INTO rewritten (name, v) VALUES (?, vault.put_secret(?, ?))")) {
      for (int i = 0; i < SIZE; i++) {
        put.setString(1, "row " + i);
        put.setString(2, dir + "rewritten");
        put.setString(3, Suite.CANARY + i);
        put.addBatch();
      }
      Tap.equal(Statement.SUCCESS_NO_INFO, put.executeBatch()[0]); // it was rewritten
    }
    Tap.equal(SIZE + " " + SIZE, text("SELECT count(DISTINCT v) || ' ' || max(v) FROM rewritten"));
    Tap.equal(Suite.CANARY + (SIZE - 1), read("rewritten"));
  }

  private void add(PreparedStatement put, String name, int i) throws SQLException {
    put.setString(1, dir + name);
    put.setString(2, Suite.CANARY + i);
    put.addBatch();
  }

  /** The driver appends RETURNING to the text. */
  void generatedKeys() throws SQLException {
    run("CREATE TEMP TABLE keyed (id serial, v int)");
    String sql = "INSERT INTO keyed (v) VALUES (vault.put_secret(?, ?))";
    try (PreparedStatement put = conn.prepareStatement(sql, Statement.RETURN_GENERATED_KEYS)) {
      for (int i = 1; i <= 5; i++) {
        put.setString(1, dir + "keyed");
        put.setString(2, Suite.CANARY + i);
        Tap.equal(1, put.executeUpdate());
        try (ResultSet keys = put.getGeneratedKeys()) {
          Tap.check(keys.next(), "no key");
          Tap.equal(i + " " + i, keys.getInt("id") + " " + keys.getInt("v"));
        }
      }
    }
    try (PreparedStatement s = conn.prepareStatement("UPDATE keyed SET v = 0 WHERE id = 1 RETURNING id, vault.read_secret(?) AS pw")) {
      s.setString(1, dir + "keyed");
      try (ResultSet rows = s.executeQuery()) {
        Tap.check(rows.next(), "no row");
        Tap.equal(Suite.CANARY + "5", rows.getString("pw"));
      }
    }
    run("DROP TABLE keyed");
  }
}
