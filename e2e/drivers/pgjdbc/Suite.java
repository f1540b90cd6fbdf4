// SPDX-License-Identifier: GPL-3.0-or-later

import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.util.Properties;

/** pgjdbc, in the query mode that the argument names. */
public final class Suite {
  static final String CANARY = System.getenv("CANARY");
  static final String BROKEN = System.getenv("BROKEN");
  private static final String PREFIX = System.getenv("PREFIX") + "/";

  private Suite() {}

  public static void main(String[] args) {
    String mode = args[0];
    boolean extended = !mode.equals("simple");
    Tap tap = new Tap();
    tap.feature("put", () -> {
      each(mode, s -> new Values(s.conn, s.dir).put());
      with(mode, "", "3", s -> Tap.equal(1, s.put("canary", CANARY)));
    });
    tap.feature("read text", () -> {
      each(mode, s -> new Values(s.conn, s.dir).read(0));
      with(mode, "no-binary/", "-1", s -> new Values(s.conn, s.dir).read(0), "binaryTransfer", "false");
    });
    if (extended) { // -1: binary from the first execution
      tap.feature("read binary", () -> with(mode, "binary/", "-1", s -> new Values(s.conn, s.dir).read(1), "binaryTransferEnable", "TEXT"));
      tap.feature("pipeline", () -> each(mode, s -> new Batches(s.conn, s.dir).pipeline()));
    }
    tap.feature("prepare", () -> each(mode, s -> new Values(s.conn, s.dir).prepare()));
    tap.feature("batch", () -> each(mode, s -> new Batches(s.conn, s.dir).batch()));
    tap.feature("rewritten batch", () -> with(mode, "", "3", s -> new Batches(s.conn, s.dir).rewritten(), "reWriteBatchedInserts", "true"));
    tap.feature("generated keys", () -> each(mode, s -> new Batches(s.conn, s.dir).generatedKeys()));
    tap.feature("cursor", () -> each(mode, s -> new Cursors(s.conn, s.dir).all()));
    tap.feature("copy in", () -> with(mode, "", "3", s -> new Bulk(s.conn, s.dir).copyIn()));
    tap.feature("copy out", () -> with(mode, "", "3", s -> new Bulk(s.conn, s.dir).copyOut()));
    tap.feature("transaction", () -> each(mode, s -> new Blocks(s.conn, s.dir).transaction()));
    tap.feature("savepoint", () -> each(mode, s -> new Blocks(s.conn, s.dir).savepoint()));
    tap.feature("autosave", () -> with(mode, "", "3", s -> new Blocks(s.conn, s.dir).autosave(), "autosave", "always"));
    tap.feature("error", () -> each(mode, s -> new Blocks(s.conn, s.dir).error()));
    tap.feature("cancel", () -> with(mode, "", "3", s -> new Events(s.conn, s.dir).cancel()));
    tap.feature("notify", () -> with(mode, "", "3", s -> new Events(s.conn, s.dir).notifications()));
    tap.feature("large object", () -> with(mode, "", "3", s -> new Bulk(s.conn, s.dir).largeObject()));
    tap.exit();
  }

  interface Part {
    void run(Session session) throws Exception;
  }

  /** Runs a part with statements that are never named, and with those named from the third execution on. */
  private static void each(String mode, Part part) throws Exception {
    for (String threshold : new String[] {"0", "3"}) {
      with(mode, threshold + "/", threshold, part);
    }
  }

  private static void with(String mode, String dir, String threshold, Part part, String... properties) throws Exception {
    try (Connection conn = connect(mode, threshold, properties)) {
      part.run(new Session(conn, PREFIX + dir));
    }
  }

  static Connection connect(String mode, String threshold, String... properties) throws SQLException {
    Properties p = new Properties();
    p.setProperty("user", System.getenv("PGUSER"));
    p.setProperty("password", System.getenv("PGPASSWORD"));
    p.setProperty("preferQueryMode", mode);
    p.setProperty("prepareThreshold", threshold);
    for (int i = 0; i < properties.length; i += 2) {
      p.setProperty(properties[i], properties[i + 1]);
    }
    return DriverManager.getConnection(url(), p);
  }

  static String url() {
    return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE") + "?sslmode=disable";
  }
}
