// SPDX-License-Identifier: GPL-3.0-or-later

import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.util.Arrays;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** COPY, and large objects, which this driver reaches by function calls of the protocol. */
final class Bulk extends Session {
  private static final int ROWS = 20_000;

  Bulk(Connection conn, String dir) {
    super(conn, dir);
  }

  void copyIn() throws Exception {
    run("CREATE TEMP TABLE copied (n int)");
    CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
    StringBuilder lines = new StringBuilder();
    for (int i = 0; i < ROWS; i++) {
      lines.append(i).append('\n');
    }
    Tap.equal((long) ROWS, copy.copyIn("COPY copied FROM STDIN", new StringReader(lines.toString())));
    Tap.fails("22P02", () -> copy.copyIn("COPY copied FROM STDIN", new StringReader("x\n")));
    CopyIn left = copy.copyIn("COPY copied FROM STDIN");
    left.writeToCopy("1\n".getBytes(StandardCharsets.UTF_8), 0, 2);
    left.cancelCopy();
    Tap.equal(Integer.toString(ROWS), text("SELECT count(*) FROM copied"));
    run("DROP TABLE copied");
  }

  void copyOut() throws Exception {
    put("copied", Suite.CANARY);
    CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
    StringWriter out = new StringWriter();
    Tap.equal((long) ROWS, copy.copyOut("COPY (SELECT n FROM generate_series(1, " + ROWS + ") n) TO STDOUT", out));
    Tap.check(out.toString().endsWith("\n" + ROWS + "\n"), "the end is missing");
    out = new StringWriter();
    Tap.equal(1L, copy.copyOut("COPY (SELECT vault.read_secret('" + dir + "copied')) TO STDOUT", out));
    Tap.check(out.toString().startsWith("hv1."), "copied: " + out);
    Tap.equal(Suite.CANARY, read("copied"));
  }

  void largeObject() throws Exception {
    conn.setAutoCommit(false);
    LargeObjectManager objects = conn.unwrap(PGConnection.class).getLargeObjectAPI();
    byte[] data = new byte[300_000];
    for (int i = 0; i < data.length; i++) {
      data[i] = (byte) i;
    }
    long oid = objects.createLO(LargeObjectManager.READWRITE);
    try (LargeObject large = objects.open(oid, LargeObjectManager.WRITE)) {
      large.write(data);
    }
    try (LargeObject large = objects.open(oid, LargeObjectManager.READ)) {
      Tap.check(Arrays.equals(data, large.read(data.length)), "other bytes");
      large.seek(256);
      Tap.equal(256, large.tell());
      Tap.equal(data.length, large.size());
    }
    objects.delete(oid);
    Tap.fails("42704", () -> objects.open(oid, LargeObjectManager.READ));
    conn.rollback();
    conn.setAutoCommit(true);
    Tap.equal(1, put("large", Suite.CANARY));
  }
}
