// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** A connection, the prefix of the names of its secrets, and what all features do with them. */
class Session {
  static final String PUT = "SELECT vault.put_secret(?, ?)";
  static final String READ = "SELECT vault.read_secret(?) AS pw";

  final Connection conn;
  final String dir;

  Session(Connection conn, String dir) {
    this.conn = conn;
    this.dir = dir;
  }

  int put(String name, String value) throws SQLException {
    try (PreparedStatement put = conn.prepareStatement(PUT)) {
      put.setString(1, dir + name);
      put.setString(2, value);
      return number(put);
    }
  }

  String read(String name) throws SQLException {
    try (PreparedStatement read = conn.prepareStatement(READ)) {
      read.setString(1, dir + name);
      try (ResultSet rows = read.executeQuery()) {
        Tap.check(rows.next(), "no row");
        return rows.getString(1);
      }
    }
  }

  static int number(PreparedStatement s) throws SQLException {
    return first(s.executeQuery());
  }

  static int first(ResultSet rows) throws SQLException {
    try (rows) {
      Tap.check(rows.next(), "no row");
      return rows.getInt(1);
    }
  }

  /** The one text that a statement without parameters must give. */
  String text(String sql) throws SQLException {
    try (Statement s = conn.createStatement(); ResultSet rows = s.executeQuery(sql)) {
      Tap.check(rows.next(), "no row");
      return rows.getString(1);
    }
  }

  void run(String... statements) throws SQLException {
    try (Statement s = conn.createStatement()) {
      for (String sql : statements) {
        s.execute(sql);
      }
    }
  }

  static String literal(String text) {
    return "'" + text.replace("'", "''") + "'";
  }
}
