import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Work {
    static String hash(byte[] b) throws Exception {
        return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(b));
    }

    static long collatz(long n) {
        long steps = 0;
        for (; n != 1; steps++) n = n % 2 == 0 ? n / 2 : 3 * n + 1;
        return steps;
    }

    public static void main(String[] args) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(4);
        List<Future<String>> parts = new ArrayList<>();
        AtomicLong shared = new AtomicLong();
        Object lock = new Object();
        long[] guarded = {0};
        for (int p = 0; p < 16; p++) {
            final int part = p;
            parts.add(pool.submit(() -> {
                long best = 0, at = 0;
                Map<String, Integer> map = new HashMap<>();
                for (long i = part * 100000 + 1; i <= (part + 1) * 100000; i++) {
                    long s = collatz(i);
                    if (s > best) { best = s; at = i; }
                    map.merge(Long.toString(s), 1, Integer::sum);
                    shared.addAndGet(s);
                    if (i % 100 == 0) synchronized (lock) { guarded[0]++; }
                }
                return part + " " + best + " " + at + " " + hash(new TreeMap<>(map).toString().getBytes(StandardCharsets.UTF_8));
            }));
        }
        BlockingQueue<Integer> queue = new ArrayBlockingQueue<>(3);
        Thread producer = new Thread(() -> {
            try {
                for (int i = 0; i < 5000; i++) queue.put(i);
                queue.put(-1);
            } catch (InterruptedException e) {
                throw new RuntimeException(e);
            }
        });
        producer.start();
        long sum = 0;
        for (int v; (v = queue.take()) >= 0; ) sum = sum * 31 + v;
        System.out.println("queue " + sum);
        for (int round = 0; round < 6; round++) {
            List<String> lines = IntStream.range(0, 50000).mapToObj(i -> i * 7919 % 10007 + ":" + i).sorted().collect(Collectors.toList());
            Path f = Path.of("f" + round);
            Files.write(f, lines);
            System.out.println(round + " " + hash(Files.readAllBytes(f)) + " " + Files.readAllLines(f).equals(lines));
            Process child = new ProcessBuilder("sh", "-c", "tr a-z A-Z; exit " + round).redirectErrorStream(true).start();
            try (var out = child.getOutputStream()) { out.write(("child " + round + "\n").getBytes()); }
            System.out.print(new String(child.getInputStream().readAllBytes()));
            System.out.println(child.waitFor());
            if (child.exitValue() != round) System.exit(1);
            System.gc();
        }
        for (Future<String> f : parts) System.out.println(f.get());
        pool.shutdown();
        System.out.println(pool.awaitTermination(60, TimeUnit.SECONDS) + " " + shared.get() + " " + guarded[0]);
        ScheduledExecutorService later = Executors.newScheduledThreadPool(1);
        CountDownLatch ticks = new CountDownLatch(20);
        later.scheduleAtFixedRate(ticks::countDown, 0, 20, TimeUnit.MILLISECONDS);
        System.out.println(ticks.await(60, TimeUnit.SECONDS));
        later.shutdownNow();
    }
}
