// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;
import org.postgresql.PGResultSetMetaData;
import org.postgresql.PGStatement;

/** Values in and out, one statement at a time. */
final class Values extends Session {
  Values(Connection conn, String dir) {
    super(conn, dir);
  }

  void put() throws SQLException {
    String[] values = {"0", Suite.CANARY + "\n\t ?", "x".repeat(400_000)};
    for (int i = 0; i < values.length; i++) {
      Tap.equal(i + 1, put("put", values[i]));
      Tap.equal(values[i], read("put"));
    }
    Tap.equal("1", text("SELECT vault.create_secret('" + dir + "generated', 'automatic')"));
    try (PreparedStatement create = conn.prepareStatement("SELECT vault.create_secret(?, ?, ?)")) {
      create.setString(1, dir + "generated too");
      create.setString(2, "automatic");
      create.setString(3, null);
      Tap.fails("22023", create::executeQuery); // a blank is no character of a name
      create.setString(1, dir + "generated-too");
      Tap.equal(1, number(create));
    }
    Tap.equal(43, read("generated-too").length());
    Tap.equal("2", text("SELECT vault.rotate_secret('" + dir + "generated')"));
  }

  /** format is 0 for text, 1 for binary. */
  void read(int format) throws SQLException {
    put("read", Suite.CANARY);
    try (PreparedStatement read = conn.prepareStatement("SELECT n, vault.read_secret(?) AS pw FROM generate_series(1, 20) n")) {
      for (int i = 0; i < 8; i++) { // beyond prepareThreshold
        read.setString(1, dir + "read");
        try (ResultSet rows = read.executeQuery()) {
          PGResultSetMetaData about = (PGResultSetMetaData) rows.getMetaData();
          Tap.equal("pw", rows.getMetaData().getColumnName(2));
          Tap.equal("text", rows.getMetaData().getColumnTypeName(2));
          Tap.equal(Types.VARCHAR, rows.getMetaData().getColumnType(2));
          for (int n = 1; n <= 20; n++) {
            Tap.check(rows.next(), "no row");
            Tap.equal(n, rows.getInt(1));
            Tap.equal(Suite.CANARY, rows.getString(2));
          }
          Tap.equal(format, about.getFormat(2));
        }
      }
    }
  }

  /** Statements that run again and again, under a name if the driver gives one. */
  void prepare() throws SQLException {
    try (PreparedStatement put = conn.prepareStatement(PUT); PreparedStatement read = conn.prepareStatement(READ)) {
      for (int i = 1; i <= 8; i++) {
        put.setString(1, dir + "prepare");
        put.setString(2, Suite.CANARY + i);
        Tap.equal(i, number(put));
        read.setString(1, dir + "prepare");
        try (ResultSet rows = read.executeQuery()) {
          Tap.check(rows.next(), "no row");
          Tap.equal(Suite.CANARY + i, rows.getString(1));
        }
      }
    }
    literal();
    run("PREPARE by_text (text) AS SELECT vault.read_secret($1)");
    for (int i = 0; i < 8; i++) {
      Tap.equal(Suite.CANARY + "8", text("EXECUTE by_text ('" + dir + "prepare')"));
    }
    run("DEALLOCATE by_text");
  }

  /** A literal value is sealed anew at each execution. */
  private void literal() throws SQLException {
    String name = literal(dir + "literal");
    String sql = "SELECT vault.put_secret(" + name + ", " + literal(Suite.CANARY) + ")";
    try (PreparedStatement put = conn.prepareStatement(sql)) {
      put.unwrap(PGStatement.class).setPrepareThreshold(1);
      for (int i = 1; i <= 3; i++) {
        Tap.equal(i, number(put));
      }
    }
    try (Statement put = conn.createStatement()) {
      for (int i = 4; i <= 12; i++) {
        Tap.equal(i, first(put.executeQuery(sql)));
      }
      Tap.equal(Suite.CANARY, read("literal"));
      put.execute(sql + "; SELECT vault.read_secret(" + name + ")");
      Tap.equal(13, first(put.getResultSet()));
      Tap.check(put.getMoreResults(), "no second result");
      Tap.check(put.getResultSet().next(), "no row");
      Tap.equal(Suite.CANARY, put.getResultSet().getString(1));
    }
    try (PreparedStatement put = conn.prepareStatement("SELECT vault.put_secret(?, " + literal(Suite.CANARY) + ") + ?")) {
      for (int i = 14; i <= 20; i++) {
        put.setString(1, dir + "literal");
        put.setInt(2, 100);
        Tap.equal(100 + i, number(put));
      }
    }
  }
}
