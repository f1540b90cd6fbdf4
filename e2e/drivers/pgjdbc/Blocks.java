// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Types;

/** Transactions, and errors in and out of them. */
final class Blocks extends Session {
  Blocks(Connection conn, String dir) {
    super(conn, dir);
  }

  void transaction() throws SQLException {
    conn.setAutoCommit(false);
    Tap.equal(1, put("tx", Suite.CANARY));
    conn.commit();
    Tap.equal(2, put("tx", Suite.CANARY + "undone"));
    Tap.equal(Suite.CANARY + "undone", read("tx"));
    conn.rollback();
    Tap.equal(Suite.CANARY, read("tx"));
    conn.commit();
    for (int level : new int[] {Connection.TRANSACTION_SERIALIZABLE, Connection.TRANSACTION_REPEATABLE_READ, Connection.TRANSACTION_READ_COMMITTED}) {
      conn.setTransactionIsolation(level);
      putAlone();
    }
    conn.setReadOnly(true);
    Tap.equal(Suite.CANARY, read("tx"));
    Tap.fails("25006", () -> put("tx", Suite.CANARY));
    conn.rollback();
    conn.setReadOnly(false);
    conn.setAutoCommit(true);
    Tap.equal(5, put("tx", Suite.CANARY));
  }

  /** Puts in a block, once more where a serializable one of another program was in its way. */
  private void putAlone() throws SQLException {
    for (boolean done = false; !done; ) {
      try {
        put("tx", Suite.CANARY);
        conn.commit();
        done = true;
      } catch (SQLException e) {
        Tap.equal("40001", e.getSQLState());
        conn.rollback();
      }
    }
  }

  void savepoint() throws SQLException {
    conn.setAutoCommit(false);
    Tap.equal(1, put("savepoint", Suite.CANARY));
    Savepoint s = conn.setSavepoint();
    Tap.equal(2, put("savepoint", "undone"));
    conn.rollback(s);
    for (int i = 0; i < 5; i++) {
      s = conn.setSavepoint();
      Tap.fails("P0002", () -> text("SELECT vault.read_secret('none')"));
      Tap.fails("25P02", () -> text("SELECT 1"));
      conn.rollback(s);
      Tap.fails("0A000", () -> text("SELECT vault.put_secret('x', 'y' || 'z')"));
      conn.rollback(s);
      try (PreparedStatement read = conn.prepareStatement(READ)) {
        read.setString(1, Suite.BROKEN); // the node cannot open it
        Tap.fails("XX001", read::executeQuery);
      }
      conn.rollback(s);
      conn.releaseSavepoint(s);
      Tap.equal(Suite.CANARY, read("savepoint"));
    }
    conn.commit();
    conn.setAutoCommit(true);
    Tap.equal(2, put("savepoint", Suite.CANARY));
  }

  /** The driver sets a savepoint before each statement and goes back to it after an error. */
  void autosave() throws SQLException {
    conn.setAutoCommit(false);
    for (int i = 1; i <= 5; i++) {
      Tap.equal(i, put("autosave", Suite.CANARY));
      try (PreparedStatement read = conn.prepareStatement(READ)) {
        read.setString(1, Suite.BROKEN);
        Tap.fails("XX001", read::executeQuery);
      }
      Tap.fails("22023", () -> put("bad name", Suite.CANARY));
      Tap.equal(Suite.CANARY, read("autosave"));
    }
    conn.commit();
    Tap.equal(Suite.CANARY, read("autosave"));
  }

  void error() throws SQLException {
    Tap.fails("P0002", () -> text("SELECT vault.read_secret('none')"));
    Tap.fails("42883", () -> text("SELECT vault.putsecret('a', " + literal(Suite.CANARY) + ")"));
    Tap.fails("22023", () -> put("bad name", Suite.CANARY));
    try (PreparedStatement put = conn.prepareStatement(PUT)) {
      put.setString(1, dir + "error");
      put.setNull(2, Types.VARCHAR);
      Tap.fails("22004", put::executeQuery);
    }
    try (PreparedStatement put = conn.prepareStatement("SELECT vault.put_secret(?, upper(?))")) {
      put.setString(1, dir + "error");
      put.setString(2, Suite.CANARY);
      Tap.fails("0A000", put::executeQuery);
    }
    Tap.fails("XX001", () -> text("SELECT vault.read_secret('" + Suite.BROKEN + "')"));
    Tap.fails("42601", () -> text("SELECT 1 +"));
    Tap.equal("1", text("SELECT 1"));
  }
}
