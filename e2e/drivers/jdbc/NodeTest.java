// SPDX-License-Identifier: GPL-3.0-or-later

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.List;
import java.util.Objects;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;

/**
 * Drives a node with pgjdbc, in each of its query modes. URL, USER and PASSWORD
 * of the environment say where it is; BROKEN is a secret that cannot be opened.
 */
public final class NodeTest {
  private static final String PUT = "SELECT vault.put_secret(?, ?)";
  private static final String READ = "SELECT vault.read_secret(?) AS pw";
  private static final String CANARY = "jdbc canary";

  private final Connection conn;
  private final String dir;

  private NodeTest(Connection conn, String dir) {
    this.conn = conn;
    this.dir = dir;
  }

  public static void main(String[] args) throws Exception {
    for (String mode : List.of("extended", "simple", "extendedForPrepared", "extendedCacheEverything")) {
      for (String binary : List.of("false", "true")) {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("USER"));
        p.setProperty("password", System.getenv("PASSWORD"));
        p.setProperty("preferQueryMode", mode);
        p.setProperty("binaryTransfer", binary);
        p.setProperty("prepareThreshold", "3");
        try (Connection conn = DriverManager.getConnection(System.getenv("URL"), p)) {
          NodeTest test = new NodeTest(conn, mode + "-" + binary + "/");
          try {
            test.all();
          } catch (Throwable e) {
            throw new AssertionError(mode + ", binaryTransfer=" + binary, e);
          }
        }
      }
    }
  }

  private void all() throws Exception {
    putAndRead();
    literal();
    batch();
    fetchSize();
    transactions();
    errors();
    broken();
    copy();
    notifications();
    generated();
  }

  private void putAndRead() throws SQLException {
    try (PreparedStatement put = conn.prepareStatement(PUT); PreparedStatement read = conn.prepareStatement(READ)) {
      for (int i = 1; i <= 8; i++) { // beyond prepareThreshold
        String value = CANARY + i + " ünï 'quoted' \\ ?";
        put.setString(1, dir + "a");
        put.setString(2, value);
        equal(i, number(put));
        read.setString(1, dir + "a");
        try (ResultSet rows = read.executeQuery()) {
          equal("pw", rows.getMetaData().getColumnName(1));
          equal("text", rows.getMetaData().getColumnTypeName(1));
          equal(Types.VARCHAR, rows.getMetaData().getColumnType(1));
          check(rows.next(), "no row");
          equal(value, rows.getString(1));
        }
      }
    }
  }

  /** One named statement with a literal value: each execution seals it anew. */
  private void literal() throws SQLException {
    String sql = "SELECT vault.put_secret('" + dir + "literal', '" + CANARY + "')";
    try (PreparedStatement put = conn.prepareStatement(sql)) {
      put.unwrap(PGStatement.class).setPrepareThreshold(1);
      for (int i = 1; i <= 3; i++) {
        equal(i, number(put));
      }
    }
    try (Statement put = conn.createStatement()) {
      for (int i = 4; i <= 12; i++) {
        equal(i, first(put.executeQuery(sql)));
      }
      equal(CANARY, text("SELECT vault.read_secret('" + dir + "literal')"));
      put.execute("SELECT 1; " + sql + "; SELECT vault.read_secret('" + dir + "literal')");
      check(put.getMoreResults(), "no second result");
      equal(13, first(put.getResultSet()));
      check(put.getMoreResults(), "no third result");
      put.getResultSet().next();
    }
    try (PreparedStatement put = conn.prepareStatement("SELECT vault.put_secret(?, '" + CANARY + "') + ?")) {
      for (int i = 14; i <= 20; i++) {
        put.setString(1, dir + "literal");
        put.setInt(2, 100);
        equal(100 + i, number(put));
      }
    }
  }

  private void batch() throws SQLException {
    try (Statement s = conn.createStatement()) {
      s.execute("CREATE TEMP TABLE jdbc_batch (v int)");
    }
    try (PreparedStatement put = conn.prepareStatement("INSERT INTO jdbc_batch SELECT vault.put_secret(?, ?)")) {
      for (int i = 0; i < 300; i++) {
        put.setString(1, dir + "batch");
        put.setString(2, CANARY + i);
        put.addBatch();
      }
      equal(300, put.executeBatch().length);
      conn.setAutoCommit(false); // in simple mode each is a message, and a transaction, of its own
      put.setString(1, dir + "batch");
      put.setString(2, CANARY + "undone");
      put.addBatch();
      put.setString(1, "bad name");
      put.setString(2, CANARY + "undone");
      put.addBatch();
      fails("22023", put::executeBatch);
      conn.rollback();
      conn.setAutoCommit(true);
    }
    equal("300 300", text("SELECT count(*) || ' ' || max(v) FROM jdbc_batch"));
    equal(CANARY + "299", text("SELECT vault.read_secret('" + dir + "batch')"));
    try (Statement s = conn.createStatement()) {
      s.execute("DROP TABLE jdbc_batch");
    }
  }

  /** Rows in pieces: a portal that is suspended. */
  private void fetchSize() throws SQLException {
    conn.setAutoCommit(false);
    try (PreparedStatement read = conn.prepareStatement("SELECT n, vault.read_secret(?) AS pw FROM generate_series(1, 57) n")) {
      for (int round = 0; round < 5; round++) {
        read.setFetchSize(10);
        read.setString(1, dir + "a");
        int n = 0;
        try (ResultSet rows = read.executeQuery()) {
          while (rows.next()) {
            n++;
            equal(n, rows.getInt(1));
            equal(CANARY + "8 ünï 'quoted' \\ ?", rows.getString(2));
          }
        }
        equal(57, n);
      }
    }
    conn.commit();
    conn.setAutoCommit(true);
  }

  private void transactions() throws SQLException {
    conn.setAutoCommit(false);
    equal(1, put("tx", "kept"));
    conn.commit();
    equal(2, put("tx", "undone"));
    Savepoint s = conn.setSavepoint();
    equal(3, put("tx", "undone too"));
    conn.rollback(s);
    fails("P0002", () -> text("SELECT vault.read_secret('none')"));
    fails("25P02", () -> text("SELECT 1"));
    conn.rollback(s);
    fails("0A000", () -> text("SELECT vault.put_secret('x', 'y' || 'z')"));
    conn.rollback(s);
    equal(CANARY + "undone", text("SELECT vault.read_secret('" + dir + "tx')"));
    conn.rollback();
    equal(CANARY + "kept", text("SELECT vault.read_secret('" + dir + "tx')"));
    conn.commit();
    conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
    equal(2, put("tx", "serializable"));
    conn.commit();
    conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
    conn.setAutoCommit(true);
  }

  private void errors() throws SQLException {
    fails("42883", () -> text("SELECT vault.putsecret('a', '" + CANARY + "')"));
    fails("22023", () -> put("bad name", "x"));
    try (PreparedStatement put = conn.prepareStatement(PUT)) {
      put.setString(1, dir + "a");
      put.setNull(2, Types.VARCHAR);
      fails("22004", put::executeQuery);
    }
    try (PreparedStatement put = conn.prepareStatement("SELECT vault.put_secret(?, upper(?))")) {
      put.setString(1, dir + "a");
      put.setString(2, CANARY);
      fails("0A000", put::executeQuery);
    }
    equal("1", text("SELECT 1"));
  }

  /** An opening that fails lets the client go back to its savepoint. */
  private void broken() throws SQLException {
    conn.setAutoCommit(false);
    for (int i = 0; i < 5; i++) {
      Savepoint s = conn.setSavepoint();
      try (PreparedStatement read = conn.prepareStatement(READ)) {
        read.setString(1, System.getenv("BROKEN"));
        fails("XX001", read::executeQuery);
      }
      conn.rollback(s);
    }
    equal("1", text("SELECT 1"));
    conn.commit();
    conn.setAutoCommit(true);
  }

  private void copy() throws Exception {
    try (Statement s = conn.createStatement()) {
      s.execute("CREATE TEMP TABLE jdbc_copy (n int)");
    }
    var copy = conn.unwrap(PGConnection.class).getCopyAPI();
    equal(3L, copy.copyIn("COPY jdbc_copy FROM STDIN", new StringReader("1\n2\n3\n")));
    fails("22P02", () -> copy.copyIn("COPY jdbc_copy FROM STDIN", new StringReader("x\n")));
    StringWriter out = new StringWriter();
    equal(1L, copy.copyOut("COPY (SELECT vault.read_secret('" + dir + "a')) TO STDOUT", out));
    check(out.toString().startsWith("hv1."), "copied: " + out);
    equal("3", text("SELECT count(*) FROM jdbc_copy"));
    try (Statement s = conn.createStatement()) {
      s.execute("DROP TABLE jdbc_copy");
    }
  }

  private void notifications() throws SQLException {
    PGConnection pg = conn.unwrap(PGConnection.class);
    try (Statement s = conn.createStatement()) {
      s.execute("LISTEN jdbc_channel");
      s.execute("NOTIFY jdbc_channel, 'mine'");
      PGNotification[] got = pg.getNotifications();
      equal("mine", got[0].getParameter());
      equal(pg.getBackendPID(), got[0].getPID());
      s.execute("UNLISTEN *");
    }
  }

  private void generated() throws SQLException {
    equal("1", text("SELECT vault.create_secret('" + dir + "generated', 'automatic')"));
    try (PreparedStatement create = conn.prepareStatement("SELECT vault.create_secret(?, ?, ?)")) {
      create.setString(1, dir + "generated too");
      create.setString(2, "automatic");
      create.setString(3, null);
      fails("22023", create::executeQuery); // a blank is no character of a name
      create.setString(1, dir + "generated-too");
      equal(1, number(create));
    }
    equal(43, text("SELECT vault.read_secret('" + dir + "generated-too')").length());
    equal("2", text("SELECT vault.rotate_secret('" + dir + "generated')"));
  }

  private int put(String name, String value) throws SQLException {
    try (PreparedStatement put = conn.prepareStatement(PUT)) {
      put.setString(1, dir + name);
      put.setString(2, CANARY + value);
      return number(put);
    }
  }

  private static int number(PreparedStatement s) throws SQLException {
    return first(s.executeQuery());
  }

  private static int first(ResultSet rows) throws SQLException {
    try (rows) {
      check(rows.next(), "no row");
      return rows.getInt(1);
    }
  }

  private String text(String sql) throws SQLException {
    try (Statement s = conn.createStatement(); ResultSet rows = s.executeQuery(sql)) {
      check(rows.next(), "no row");
      return rows.getString(1);
    }
  }

  private interface Action {
    void run() throws Exception;
  }

  private static void fails(String state, Action action) {
    try {
      action.run();
    } catch (SQLException e) {
      SQLException last = e.getNextException() == null ? e : e.getNextException();
      if (Objects.equals(state, last.getSQLState())) {
        return;
      }
      throw new AssertionError("got " + last.getSQLState() + ", want " + state, e);
    } catch (Exception e) {
      throw new AssertionError("got another error, want " + state, e);
    }
    throw new AssertionError("got no error, want " + state);
  }

  private static void equal(Object want, Object got) {
    check(Objects.equals(want, got), "got " + got + ", want " + want);
  }

  private static void check(boolean ok, String message) {
    if (!ok) {
      throw new AssertionError(message);
    }
  }
}
