// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

/** Rows in pieces. */
final class Cursors extends Session {
  private static final String ROWS = "SELECT n, vault.read_secret(?) AS pw FROM generate_series(1, 57) n";

  Cursors(Connection conn, String dir) {
    super(conn, dir);
  }

  void all() throws SQLException {
    put("cursor", Suite.CANARY);
    conn.setAutoCommit(false);
    fetchSize();
    sql();
    refCursor();
    conn.commit();
    conn.setAutoCommit(true);
  }

  /** A portal that is suspended, but in simple mode. */
  private void fetchSize() throws SQLException {
    try (PreparedStatement read = conn.prepareStatement(ROWS)) {
      for (int round = 0; round < 5; round++) {
        read.setFetchSize(10);
        read.setString(1, dir + "cursor");
        try (ResultSet rows = read.executeQuery()) {
          expect(rows);
        }
      }
      // Two at a time, and one that is left half read.
      read.setFetchSize(10);
      read.setString(1, dir + "cursor");
      try (ResultSet rows = read.executeQuery()) {
        Tap.check(rows.next(), "no row");
        Tap.equal(Suite.CANARY, read("cursor"));
        try (PreparedStatement other = conn.prepareStatement(ROWS)) {
          other.setFetchSize(3);
          other.setString(1, dir + "cursor");
          Tap.check(other.executeQuery().next(), "no row");
        }
        Tap.equal(Suite.CANARY, rows.getString(2));
        Tap.check(rows.next(), "no row");
      }
    }
  }

  private void sql() throws SQLException {
    try (PreparedStatement declare = conn.prepareStatement("DECLARE by_name SCROLL CURSOR FOR " + ROWS.replace("?", literal(dir + "cursor")))) {
      declare.execute();
    }
    try (PreparedStatement fetch = conn.prepareStatement("FETCH ALL FROM by_name")) {
      expect(fetch.executeQuery());
    }
    run("MOVE ABSOLUTE 0 FROM by_name");
    Tap.equal("1", text("FETCH 1 FROM by_name"));
    run("CLOSE by_name");
  }

  /** A function's cursor, which the driver fetches as a result set. */
  private void refCursor() throws SQLException {
    run("CREATE FUNCTION pg_temp.opened(name text) RETURNS refcursor LANGUAGE plpgsql AS $$ DECLARE c refcursor;"
        + " BEGIN OPEN c FOR SELECT n, vault.read_secret(name) AS pw FROM generate_series(1, 57) n; RETURN c; END $$");
    try (PreparedStatement open = conn.prepareStatement("SELECT pg_temp.opened(?)")) {
      open.setString(1, dir + "cursor");
      try (ResultSet opened = open.executeQuery()) {
        Tap.check(opened.next(), "no row");
        expect((ResultSet) opened.getObject(1));
      }
    }
    run("DROP FUNCTION pg_temp.opened");
  }

  private static void expect(ResultSet rows) throws SQLException {
    int n = 0;
    while (rows.next()) {
      n++;
      Tap.equal(n, rows.getInt(1));
      Tap.equal(Suite.CANARY, rows.getString(2));
    }
    Tap.equal(57, n);
  }
}
