// Curator's recipes, each used by several clients as programs use them, with sessions that end in
// the middle:
//
//     java -cp '/usr/share/java/*' Recipes.java HOST:PORT [RECIPE...]
//
// runs all recipes or those named, and exits 0 when each kept its promise. The server must be a
// fresh one, with extendedTypesEnabled=true, a short tick, and containers looked after each second.

import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import org.apache.curator.RetryPolicy;
import org.apache.curator.framework.*;
import org.apache.curator.framework.api.*;
import org.apache.curator.framework.api.transaction.*;
import org.apache.curator.framework.recipes.atomic.*;
import org.apache.curator.framework.recipes.barriers.*;
import org.apache.curator.framework.recipes.cache.*;
import org.apache.curator.framework.recipes.leader.*;
import org.apache.curator.framework.recipes.locks.*;
import org.apache.curator.framework.recipes.nodes.*;
import org.apache.curator.framework.recipes.queue.*;
import org.apache.curator.framework.recipes.shared.*;
import org.apache.curator.framework.recipes.watch.PersistentWatcher;
import org.apache.curator.framework.state.*;
import org.apache.curator.retry.*;
import org.apache.zookeeper.*;
import org.apache.zookeeper.data.Stat;

public class Recipes {
    static final int SESSION_MS = 4000;
    static final int PATIENCE_MS = 20_000;
    static String hosts;

    interface Recipe {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static final Map<String, Recipe> RECIPES = new LinkedHashMap<>();

    static {
        RECIPES.put("mutex", Recipes::mutex);
        RECIPES.put("revoking", Recipes::revoking);
        RECIPES.put("read-write-lock", Recipes::readWriteLock);
        RECIPES.put("multi-lock", Recipes::multiLock);
        RECIPES.put("semaphore", Recipes::semaphore);
        RECIPES.put("shared-semaphore", Recipes::sharedSemaphore);
        RECIPES.put("barrier", Recipes::barrier);
        RECIPES.put("double-barrier", Recipes::doubleBarrier);
        RECIPES.put("leader-latch", Recipes::leaderLatch);
        RECIPES.put("leader-selector", Recipes::leaderSelector);
        RECIPES.put("queue", Recipes::queue);
        RECIPES.put("priority-queue", Recipes::priorityQueue);
        RECIPES.put("delay-queue", Recipes::delayQueue);
        RECIPES.put("id-queue", Recipes::idQueue);
        RECIPES.put("simple-queue", Recipes::simpleQueue);
        RECIPES.put("curator-cache", Recipes::curatorCache);
        RECIPES.put("tree-cache", Recipes::treeCache);
        RECIPES.put("path-children-cache", Recipes::pathChildrenCache);
        RECIPES.put("node-cache", Recipes::nodeCache);
        RECIPES.put("persistent-watcher", Recipes::persistentWatcher);
        RECIPES.put("removed-watches", Recipes::removedWatches);
        RECIPES.put("persistent-node", Recipes::persistentNode);
        RECIPES.put("ttl-node", Recipes::ttlNode);
        RECIPES.put("containers", Recipes::containers);
        RECIPES.put("group-member", Recipes::groupMember);
        RECIPES.put("shared-count", Recipes::sharedCount);
        RECIPES.put("atomic-long", Recipes::atomicLong);
        RECIPES.put("transactions", Recipes::transactions);
    }

    public static void main(String[] arguments) throws Exception {
        hosts = arguments[0];
        List<String> names = Arrays.asList(arguments).subList(1, arguments.length);
        // They have no paths in common, so they run side by side and wait for sessions together.
        ExecutorService pool = Executors.newFixedThreadPool(6);
        Map<String, Future<?>> running = new LinkedHashMap<>();
        for (Map.Entry<String, Recipe> recipe : RECIPES.entrySet()) {
            if (names.isEmpty() || names.contains(recipe.getKey())) {
                running.put(recipe.getKey(), pool.submit(() -> {
                    try {
                        recipe.getValue().run();
                    } finally {
                        closeClients();
                    }
                    return null;
                }));
            }
        }
        int failed = 0;
        for (Map.Entry<String, Future<?>> recipe : running.entrySet()) {
            try {
                recipe.getValue().get();
                System.err.println("ok " + recipe.getKey());
            } catch (ExecutionException error) {
                failed++;
                System.err.println("FAILED " + recipe.getKey());
                error.getCause().printStackTrace();
            }
        }
        System.exit(running.isEmpty() || failed > 0 ? 1 : 0);
    }

    // ---- What the recipes are tried with.

    /** The clients that the recipe of this thread opened. */
    static final ThreadLocal<List<CuratorFramework>> CLIENTS =
        ThreadLocal.withInitial(ArrayList::new);

    static CuratorFramework client() throws Exception {
        RetryPolicy retry = new RetryNTimes(100, 100);
        CuratorFramework client = CuratorFrameworkFactory.builder().connectString(hosts)
            .sessionTimeoutMs(SESSION_MS).connectionTimeoutMs(PATIENCE_MS).retryPolicy(retry).build();
        client.start();
        check(client.blockUntilConnected(PATIENCE_MS, TimeUnit.MILLISECONDS), "no connection");
        CLIENTS.get().add(client);
        return client;
    }

    static void closeClients() {
        CLIENTS.get().forEach(CuratorFramework::close);
        CLIENTS.get().clear();
    }

    /** Ends the client's session as another connection that knows its password can. */
    static void kill(CuratorFramework client) throws Exception {
        ZooKeeper zk = client.getZookeeperClient().getZooKeeper();
        CountDownLatch connected = new CountDownLatch(1);
        ZooKeeper thief = new ZooKeeper(hosts, SESSION_MS, event -> {
            if (event.getState() == Watcher.Event.KeeperState.SyncConnected) {
                connected.countDown();
            }
        }, zk.getSessionId(), zk.getSessionPasswd());
        check(connected.await(PATIENCE_MS, TimeUnit.MILLISECONDS), "the session was not taken over");
        thief.close();
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    static void same(Object found, Object expected, String what) {
        check(Objects.equals(found, expected), what + ": " + found + ", not " + expected);
    }

    static void eventually(String what, Condition condition) throws Exception {
        long deadline = System.nanoTime() + PATIENCE_MS * 1_000_000L;
        while (!condition.holds()) {
            check(System.nanoTime() < deadline, "never: " + what);
            Thread.sleep(10);
        }
    }

    static Future<?> start(Recipe work) {
        FutureTask<?> task = new FutureTask<>(() -> {
            work.run();
            return null;
        });
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        thread.start();
        return task;
    }

    static void end(Future<?> task) throws Exception {
        task.get(PATIENCE_MS, TimeUnit.MILLISECONDS);
    }

    static byte[] bytes(String text) {
        return text.getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    static String text(byte[] data) {
        return new String(data, java.nio.charset.StandardCharsets.UTF_8);
    }

    // ---- Locks.

    static void mutex() throws Exception {
        List<CuratorFramework> clients = List.of(client(), client(), client());
        AtomicInteger inside = new AtomicInteger(), most = new AtomicInteger(), times = new AtomicInteger();
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : clients) {
            workers.add(start(() -> {
                InterProcessMutex lock = new InterProcessMutex(client, "/mutex");
                for (int round = 0; round < 10; round++) {
                    lock.acquire();
                    lock.acquire(); // it is reentrant
                    most.accumulateAndGet(inside.incrementAndGet(), Math::max);
                    Thread.sleep(1);
                    inside.decrementAndGet();
                    lock.release();
                    check(lock.isOwnedByCurrentThread(), "held until as many releases");
                    lock.release();
                    times.incrementAndGet();
                }
            }));
        }
        for (Future<?> worker : workers) {
            end(worker);
        }
        same(most.get(), 1, "at once in the lock");
        same(times.get(), 30, "times in the lock");
        // The holder's session ends: the next gets the lock, in the order of arrival.
        InterProcessMutex first = new InterProcessMutex(clients.get(0), "/mutex");
        InterProcessMutex second = new InterProcessMutex(clients.get(1), "/mutex");
        first.acquire();
        check(!second.acquire(200, TimeUnit.MILLISECONDS), "held by another");
        Future<?> waiting = start(() -> {
            second.acquire();
            second.release();
        });
        eventually("the second waits", () -> first.getParticipantNodes().size() == 2);
        check(!waiting.isDone(), "it has to wait");
        kill(clients.get(0));
        end(waiting);
    }

    static void revoking() throws Exception {
        InterProcessMutex holder = new InterProcessMutex(client(), "/revoking");
        AtomicInteger asked = new AtomicInteger();
        holder.makeRevocable(lock -> asked.incrementAndGet());
        holder.acquire();
        CuratorFramework other = client();
        String node = holder.getParticipantNodes().iterator().next();
        Revoker.attemptRevoke(other, node);
        eventually("the holder is asked", () -> asked.get() == 1);
        holder.release();
    }

    static void readWriteLock() throws Exception {
        CuratorFramework one = client(), two = client(), three = client();
        InterProcessReadWriteLock a = new InterProcessReadWriteLock(one, "/read-write");
        InterProcessReadWriteLock b = new InterProcessReadWriteLock(two, "/read-write");
        InterProcessReadWriteLock c = new InterProcessReadWriteLock(three, "/read-write");
        a.readLock().acquire();
        check(b.readLock().acquire(PATIENCE_MS, TimeUnit.MILLISECONDS), "readers share");
        check(!c.writeLock().acquire(200, TimeUnit.MILLISECONDS), "a writer waits for readers");
        AtomicBoolean wrote = new AtomicBoolean(), readAfter = new AtomicBoolean();
        CountDownLatch mayEnd = new CountDownLatch(1);
        Future<?> writer = start(() -> {
            c.writeLock().acquire();
            wrote.set(true);
            mayEnd.await();
            c.writeLock().release();
        });
        eventually("the writer waits", () -> c.writeLock().getParticipantNodes().size() == 1);
        Future<?> late = start(() -> {
            InterProcessReadWriteLock again = new InterProcessReadWriteLock(one, "/read-write");
            again.readLock().acquire();
            readAfter.set(true);
            again.readLock().release();
        });
        Thread.sleep(200);
        check(!wrote.get() && !readAfter.get(), "a writer waits, and who came after it as well");
        a.readLock().release();
        kill(two); // the second reader goes with its session
        eventually("the writer has it", wrote::get);
        check(!readAfter.get(), "alone");
        mayEnd.countDown();
        end(writer);
        end(late);
        // A writer may become a reader.
        c.writeLock().acquire();
        c.readLock().acquire();
        c.writeLock().release();
        check(a.readLock().acquire(PATIENCE_MS, TimeUnit.MILLISECONDS), "it is a reader now");
        a.readLock().release();
        c.readLock().release();
    }

    static void multiLock() throws Exception {
        CuratorFramework client = client(), other = client();
        InterProcessMultiLock both = new InterProcessMultiLock(client, List.of("/multi-lock/a", "/multi-lock/b"));
        InterProcessMutex one = new InterProcessMutex(other, "/multi-lock/b");
        one.acquire();
        check(!both.acquire(200, TimeUnit.MILLISECONDS), "one of them is held");
        InterProcessMutex free = new InterProcessMutex(other, "/multi-lock/a");
        check(free.acquire(PATIENCE_MS, TimeUnit.MILLISECONDS), "the other was let go");
        free.release();
        one.release();
        check(both.acquire(PATIENCE_MS, TimeUnit.MILLISECONDS), "both are free");
        both.release();
    }

    static void semaphore() throws Exception {
        CuratorFramework one = client(), two = client();
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(one, "/semaphore", 2);
        InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(two, "/semaphore", 2);
        Lease first = a.acquire();
        a.acquire();
        same(b.acquire(200, TimeUnit.MILLISECONDS), null, "a third lease of two");
        a.returnLease(first);
        Lease third = b.acquire(PATIENCE_MS, TimeUnit.MILLISECONDS);
        check(third != null, "one was given back");
        same(b.getParticipantNodes().size(), 2, "leases");
        kill(one);
        Lease fourth = b.acquire(PATIENCE_MS, TimeUnit.MILLISECONDS);
        check(fourth != null, "a lease goes with its session");
        b.returnAll(List.of(third, fourth));
    }

    static void sharedSemaphore() throws Exception {
        CuratorFramework one = client(), two = client();
        SharedCount count = new SharedCount(one, "/shared-semaphore-count", 1);
        count.start();
        InterProcessSemaphoreV2 a = new InterProcessSemaphoreV2(one, "/shared-semaphore", count);
        SharedCount counted = new SharedCount(two, "/shared-semaphore-count", 1);
        counted.start();
        InterProcessSemaphoreV2 b = new InterProcessSemaphoreV2(two, "/shared-semaphore", counted);
        Lease held = a.acquire();
        same(b.acquire(200, TimeUnit.MILLISECONDS), null, "a second lease of one");
        count.setCount(2);
        Lease second = b.acquire(PATIENCE_MS, TimeUnit.MILLISECONDS);
        check(second != null, "there are two now");
        a.returnLease(held);
        b.returnLease(second);
        count.close();
        counted.close();
    }

    // ---- Barriers.

    static void barrier() throws Exception {
        CuratorFramework keeper = client();
        DistributedBarrier barrier = new DistributedBarrier(keeper, "/barrier");
        barrier.setBarrier();
        AtomicInteger passed = new AtomicInteger();
        List<Future<?>> waiting = new ArrayList<>();
        for (CuratorFramework client : List.of(client(), client(), client())) {
            waiting.add(start(() -> {
                DistributedBarrier same = new DistributedBarrier(client, "/barrier");
                check(!same.waitOnBarrier(100, TimeUnit.MILLISECONDS), "the barrier is there");
                same.waitOnBarrier();
                passed.incrementAndGet();
            }));
        }
        Thread.sleep(300);
        same(passed.get(), 0, "passed the barrier");
        barrier.removeBarrier();
        for (Future<?> one : waiting) {
            end(one);
        }
        same(passed.get(), 3, "passed after it");
    }

    static void doubleBarrier() throws Exception {
        AtomicInteger entered = new AtomicInteger(), left = new AtomicInteger();
        AtomicReferenceArray<Boolean> mayLeave = new AtomicReferenceArray<>(3);
        List<Future<?>> members = new ArrayList<>();
        for (int member = 0; member < 3; member++) {
            CuratorFramework client = client();
            int number = member;
            members.add(start(() -> {
                DistributedDoubleBarrier barrier = new DistributedDoubleBarrier(client, "/double-barrier", 3);
                barrier.enter();
                entered.incrementAndGet();
                eventually("told to leave", () -> mayLeave.get(number) != null);
                barrier.leave();
                left.incrementAndGet();
            }));
            if (number < 2) {
                Thread.sleep(200);
                same(entered.get(), 0, "entered before all are there");
            }
        }
        eventually("all entered", () -> entered.get() == 3);
        mayLeave.set(0, true);
        mayLeave.set(1, true);
        Thread.sleep(300);
        same(left.get(), 0, "left before all do");
        mayLeave.set(2, true);
        for (Future<?> member : members) {
            end(member);
        }
    }

    // ---- Leaders.

    static void leaderLatch() throws Exception {
        List<CuratorFramework> clients = List.of(client(), client(), client());
        List<LeaderLatch> latches = new ArrayList<>();
        for (CuratorFramework client : clients) {
            LeaderLatch latch = new LeaderLatch(client, "/leader-latch", "latch-" + latches.size());
            latch.start();
            int standing = latches.size() + 1;
            latches.add(latch);
            eventually("it stands", () -> latch.getParticipants().size() == standing);
        }
        check(latches.get(0).await(PATIENCE_MS, TimeUnit.MILLISECONDS), "the first leads");
        for (LeaderLatch latch : latches) {
            same(latch.getLeader().getId(), "latch-0", "the leader, seen by each");
        }
        AtomicBoolean lost = new AtomicBoolean();
        latches.get(0).addListener(new LeaderLatchListener() {
            public void isLeader() {}

            public void notLeader() {
                lost.set(true);
            }
        });
        kill(clients.get(0));
        check(latches.get(1).await(PATIENCE_MS, TimeUnit.MILLISECONDS), "the second follows it");
        eventually("the first knows", lost::get);
        check(!latches.get(2).hasLeadership(), "one leader");
        // The first stands again, behind the third.
        eventually("it stands again", () -> latches.get(2).getParticipants().size() == 3);
        latches.get(1).close();
        check(latches.get(2).await(PATIENCE_MS, TimeUnit.MILLISECONDS), "the third follows");
        check(!latches.get(0).hasLeadership(), "the first comes last");
        latches.get(2).close();
        check(latches.get(0).await(PATIENCE_MS, TimeUnit.MILLISECONDS), "now it does");
        latches.get(0).close();
    }

    static void leaderSelector() throws Exception {
        AtomicInteger leading = new AtomicInteger(), most = new AtomicInteger();
        AtomicIntegerArray led = new AtomicIntegerArray(3);
        List<LeaderSelector> selectors = new ArrayList<>();
        List<CuratorFramework> clients = List.of(client(), client(), client());
        AtomicBoolean hold = new AtomicBoolean();
        AtomicInteger holder = new AtomicInteger(-1), interrupted = new AtomicInteger();
        for (int number = 0; number < 3; number++) {
            int mine = number;
            LeaderSelector selector = new LeaderSelector(clients.get(number), "/leader-selector",
                new LeaderSelectorListenerAdapter() {
                    public void takeLeadership(CuratorFramework client) throws Exception {
                        most.accumulateAndGet(leading.incrementAndGet(), Math::max);
                        try {
                            led.incrementAndGet(mine);
                            Thread.sleep(5);
                            if (hold.get()) {
                                holder.set(mine);
                                Thread.sleep(PATIENCE_MS * 3);
                            }
                        } catch (InterruptedException error) {
                            interrupted.incrementAndGet();
                        } finally {
                            leading.decrementAndGet();
                        }
                    }
                });
            selector.autoRequeue();
            selector.setId("selector-" + number);
            selector.start();
            selectors.add(selector);
        }
        eventually("each led twice", () -> led.get(0) > 1 && led.get(1) > 1 && led.get(2) > 1);
        hold.set(true);
        eventually("one holds on to it", () -> holder.get() >= 0);
        int old = holder.get();
        eventually("who is known to all", () ->
            selectors.get((old + 1) % 3).getLeader().getId().equals("selector-" + old));
        same(selectors.get(old).getParticipants().size(), 3, "candidates");
        hold.set(false);
        same(most.get(), 1, "leaders at once");
        // The adapter gives leadership up when it learns that the session is lost; the next may
        // lead a moment before.
        kill(clients.get(old));
        eventually("it was interrupted", () -> interrupted.get() == 1);
        int before = led.get((old + 1) % 3);
        eventually("others lead", () -> led.get((old + 1) % 3) > before);
        for (LeaderSelector selector : selectors) {
            selector.close();
        }
    }

    // ---- Queues.

    static final QueueSerializer<String> TEXT = new QueueSerializer<>() {
        public byte[] serialize(String item) {
            return bytes(item);
        }

        public String deserialize(byte[] data) {
            return text(data);
        }
    };

    static QueueConsumer<String> collecting(Collection<String> to) {
        return new QueueConsumer<>() {
            public void consumeMessage(String message) {
                to.add(message);
            }

            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        };
    }

    static void queue() throws Exception {
        Collection<String> taken = new ConcurrentLinkedQueue<>();
        DistributedQueue<String> in = QueueBuilder.builder(client(), null, TEXT, "/queue").buildQueue();
        in.start();
        for (int item = 0; item < 30; item++) {
            in.put("item-" + item);
        }
        check(in.flushPuts(PATIENCE_MS, TimeUnit.MILLISECONDS), "all are in the queue");
        DistributedQueue<String> out = QueueBuilder.builder(client(), collecting(taken), TEXT, "/queue")
            .lockPath("/queue-locks").buildQueue();
        out.start();
        eventually("all are taken", () -> taken.size() == 30);
        List<String> order = new ArrayList<>(taken);
        for (int item = 0; item < 30; item++) {
            same(order.get(item), "item-" + item, "the order of arrival");
        }
        // Two consumers share what comes; each item is for one of them.
        Collection<String> also = new ConcurrentLinkedQueue<>();
        DistributedQueue<String> other = QueueBuilder.builder(client(), collecting(also), TEXT, "/queue")
            .lockPath("/queue-locks").buildQueue();
        other.start();
        for (int item = 30; item < 90; item++) {
            in.put("item-" + item);
        }
        eventually("all are taken", () -> taken.size() + also.size() >= 90);
        Set<String> different = new HashSet<>(taken);
        different.addAll(also);
        same(different.size(), 90, "each once");
        same(taken.size() + also.size(), 90, "each once");
        in.close();
        out.close();
        other.close();
    }

    static void priorityQueue() throws Exception {
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        DistributedPriorityQueue<String> in =
            QueueBuilder.builder(client(), null, TEXT, "/priority-queue").buildPriorityQueue(0);
        in.start();
        for (int priority : new int[] {5, 1, -3, 9, 2}) {
            in.put("p" + priority, priority);
        }
        check(in.flushPuts(PATIENCE_MS, TimeUnit.MILLISECONDS), "all are in the queue");
        DistributedPriorityQueue<String> out = QueueBuilder
            .builder(client(), collecting(taken), TEXT, "/priority-queue").buildPriorityQueue(0);
        out.start();
        eventually("all are taken", () -> taken.size() == 5);
        same(taken, List.of("p-3", "p1", "p2", "p5", "p9"), "the order of priority");
        in.close();
        out.close();
    }

    static void delayQueue() throws Exception {
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        DistributedDelayQueue<String> queue = QueueBuilder
            .builder(client(), collecting(taken), TEXT, "/delay-queue").buildDelayQueue();
        queue.start();
        long now = System.currentTimeMillis();
        queue.put("late", now + 1500);
        queue.put("soon", now + 700);
        Thread.sleep(300);
        same(taken, List.of(), "taken before its time");
        eventually("both are taken", () -> taken.size() == 2);
        same(taken, List.of("soon", "late"), "the order of time");
        check(System.currentTimeMillis() >= now + 1500, "too early");
        queue.close();
    }

    static void idQueue() throws Exception {
        List<String> taken = Collections.synchronizedList(new ArrayList<>());
        CuratorFramework client = client();
        DistributedIdQueue<String> in = QueueBuilder.builder(client, null, TEXT, "/id-queue").buildIdQueue();
        in.start();
        in.put("a", "id-a");
        in.put("b", "id-b");
        check(in.flushPuts(PATIENCE_MS, TimeUnit.MILLISECONDS), "both are in the queue");
        same(in.remove("id-a"), 1, "removed by id");
        DistributedIdQueue<String> out =
            QueueBuilder.builder(client(), collecting(taken), TEXT, "/id-queue").buildIdQueue();
        out.start();
        eventually("the other is taken", () -> taken.equals(List.of("b")));
        in.close();
        out.close();
    }

    static void simpleQueue() throws Exception {
        SimpleDistributedQueue queue = new SimpleDistributedQueue(client(), "/simple-queue");
        same(queue.poll(200, TimeUnit.MILLISECONDS), null, "nothing is there");
        SimpleDistributedQueue other = new SimpleDistributedQueue(client(), "/simple-queue");
        AtomicReference<String> got = new AtomicReference<>();
        Future<?> taker = start(() -> got.set(text(other.take())));
        Thread.sleep(100);
        check(queue.offer(bytes("first")), "offered");
        end(taker);
        same(got.get(), "first", "taken");
        queue.offer(bytes("second"));
        same(text(other.peek()), "second", "the head");
        same(text(other.remove()), "second", "the head");
    }

    // ---- Caches and watchers.

    static void curatorCache() throws Exception {
        CuratorFramework client = client(), other = client();
        other.create().creatingParentsIfNeeded().forPath("/curator-cache/a/b", bytes("1"));
        CuratorCache cache = CuratorCache.build(client, "/curator-cache");
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        cache.listenable().addListener(CuratorCacheListener.builder()
            .forCreates(node -> events.add("+" + node.getPath()))
            .forChanges((old, node) -> events.add("=" + node.getPath() + ":" + text(node.getData())))
            .forDeletes(node -> events.add("-" + node.getPath())).build());
        cache.start();
        eventually("what is there", () -> cache.size() == 3);
        eventually("is told", () -> events.size() == 3);
        events.clear();
        // Changes in the depths, creations and deletions: by one recursive watch.
        other.setData().forPath("/curator-cache/a/b", bytes("2"));
        eventually("a change", () -> events.equals(List.of("=/curator-cache/a/b:2")));
        other.create().forPath("/curator-cache/a/b/c");
        eventually("a creation", () -> events.contains("+/curator-cache/a/b/c"));
        other.delete().forPath("/curator-cache/a/b/c");
        eventually("a deletion", () -> events.contains("-/curator-cache/a/b/c"));
        other.setData().forPath("/curator-cache/a/b", bytes("3"));
        eventually("it goes on", () -> events.contains("=/curator-cache/a/b:3"));
        same(text(cache.get("/curator-cache/a/b").get().getData()), "3", "cached");
        // What happens while the session is being replaced is not missed.
        kill(client);
        other.setData().forPath("/curator-cache/a", bytes("away"));
        eventually("caught up", () -> text(cache.get("/curator-cache/a").get().getData()).equals("away"));
        cache.close();
    }

    static void treeCache() throws Exception {
        CuratorFramework client = client(), other = client();
        other.create().creatingParentsIfNeeded().forPath("/tree-cache/a/b", bytes("1"));
        TreeCache cache = new TreeCache(client, "/tree-cache");
        Set<String> events = ConcurrentHashMap.newKeySet();
        cache.getListenable().addListener((from, event) ->
            events.add(event.getType() + (event.getData() == null ? "" : " " + event.getData().getPath())));
        cache.start();
        eventually("it is filled", () -> events.contains("INITIALIZED"));
        same(text(cache.getCurrentData("/tree-cache/a/b").getData()), "1", "cached");
        other.setData().forPath("/tree-cache/a/b", bytes("2"));
        eventually("a change", () -> events.contains("NODE_UPDATED /tree-cache/a/b"));
        other.create().forPath("/tree-cache/a/c");
        eventually("a creation", () -> events.contains("NODE_ADDED /tree-cache/a/c"));
        other.delete().deletingChildrenIfNeeded().forPath("/tree-cache/a");
        eventually("deletions", () -> events.contains("NODE_REMOVED /tree-cache/a"));
        kill(client);
        other.create().forPath("/tree-cache/d", bytes("away"));
        eventually("caught up", () -> cache.getCurrentData("/tree-cache/d") != null);
        same(cache.getCurrentChildren("/tree-cache").keySet(), Set.of("d"), "children");
        cache.close();
    }

    @SuppressWarnings("deprecation")
    static void pathChildrenCache() throws Exception {
        CuratorFramework client = client(), other = client();
        other.create().creatingParentsIfNeeded().forPath("/children-cache/a", bytes("1"));
        PathChildrenCache cache = new PathChildrenCache(client, "/children-cache", true);
        Set<String> events = ConcurrentHashMap.newKeySet();
        cache.getListenable().addListener((from, event) ->
            events.add(event.getType() + (event.getData() == null ? "" : " " + event.getData().getPath())));
        cache.start(PathChildrenCache.StartMode.BUILD_INITIAL_CACHE);
        same(text(cache.getCurrentData("/children-cache/a").getData()), "1", "cached");
        for (int child = 0; child < 20; child++) {
            other.create().forPath("/children-cache/n" + child);
        }
        eventually("all are seen", () -> cache.getCurrentData().size() == 21);
        other.setData().forPath("/children-cache/a", bytes("2"));
        eventually("a change", () -> events.contains("CHILD_UPDATED /children-cache/a"));
        other.delete().forPath("/children-cache/n7");
        eventually("a deletion", () -> events.contains("CHILD_REMOVED /children-cache/n7"));
        kill(client);
        eventually("the loss is told", () -> events.contains("CONNECTION_LOST"));
        other.create().forPath("/children-cache/away");
        eventually("caught up", () -> events.contains("CHILD_ADDED /children-cache/away"));
        cache.close();
    }

    @SuppressWarnings("deprecation")
    static void nodeCache() throws Exception {
        CuratorFramework client = client(), other = client();
        NodeCache cache = new NodeCache(client, "/node-cache/one");
        AtomicInteger changes = new AtomicInteger();
        cache.getListenable().addListener(changes::incrementAndGet);
        cache.start(true);
        same(cache.getCurrentData(), null, "it is not there yet");
        other.create().creatingParentsIfNeeded().forPath("/node-cache/one", bytes("1"));
        eventually("a creation", () -> cache.getCurrentData() != null && changes.get() >= 1);
        other.setData().forPath("/node-cache/one", bytes("2"));
        eventually("a change", () -> text(cache.getCurrentData().getData()).equals("2"));
        other.delete().forPath("/node-cache/one");
        eventually("a deletion", () -> cache.getCurrentData() == null);
        other.create().forPath("/node-cache/one", bytes("3"));
        eventually("again", () -> cache.getCurrentData() != null);
        cache.close();
    }

    static void persistentWatcher() throws Exception {
        CuratorFramework client = client(), other = client();
        other.create().forPath("/persistent-watcher");
        List<String> deep = Collections.synchronizedList(new ArrayList<>());
        List<String> flat = Collections.synchronizedList(new ArrayList<>());
        PersistentWatcher recursive = new PersistentWatcher(client, "/persistent-watcher", true);
        recursive.getListenable().addListener(event -> {
            if (event.getPath() != null) {
                deep.add(event.getType() + " " + event.getPath());
            }
        });
        recursive.start();
        PersistentWatcher single = new PersistentWatcher(other, "/persistent-watcher", false);
        single.getListenable().addListener(event -> {
            if (event.getPath() != null) {
                flat.add(event.getType() + " " + event.getPath());
            }
        });
        single.start();
        CuratorFramework third = client();
        // Their watches are set in the background: this is told to both once they are.
        eventually("both watch", () -> {
            third.setData().forPath("/persistent-watcher");
            return !deep.isEmpty() && !flat.isEmpty();
        });
        Thread.sleep(200);
        deep.clear();
        flat.clear();
        for (int round = 0; round < 2; round++) {
            third.create().forPath("/persistent-watcher/a");
            third.create().forPath("/persistent-watcher/a/b");
            third.setData().forPath("/persistent-watcher/a/b");
            third.delete().forPath("/persistent-watcher/a/b");
            third.delete().forPath("/persistent-watcher/a");
        }
        third.setData().forPath("/persistent-watcher");
        String node = "/persistent-watcher";
        List<String> round = List.of("NodeCreated " + node + "/a", "NodeCreated " + node + "/a/b",
            "NodeDataChanged " + node + "/a/b", "NodeDeleted " + node + "/a/b", "NodeDeleted " + node + "/a");
        List<String> all = new ArrayList<>(round);
        all.addAll(round);
        all.add("NodeDataChanged " + node);
        eventually("the recursive one saw " + deep, () -> deep.size() >= 11);
        same(deep, all, "the recursive watch's events");
        eventually("the other one", () -> flat.size() >= 5);
        same(flat, List.of("NodeChildrenChanged " + node, "NodeChildrenChanged " + node,
            "NodeChildrenChanged " + node, "NodeChildrenChanged " + node, "NodeDataChanged " + node),
            "the plain watch's events");
        recursive.close();
        single.close();
    }

    static void removedWatches() throws Exception {
        CuratorFramework client = client(), other = client();
        other.create().forPath("/removed-watches");
        List<String> events = Collections.synchronizedList(new ArrayList<>());
        CuratorWatcher watcher = event -> events.add(event.getType().toString());
        client.checkExists().usingWatcher(watcher).forPath("/removed-watches");
        client.getChildren().usingWatcher(watcher).forPath("/removed-watches");
        client.watches().remove(watcher).ofType(Watcher.WatcherType.Data).forPath("/removed-watches");
        eventually("told that it is removed", () -> events.equals(List.of("DataWatchRemoved")));
        other.setData().forPath("/removed-watches");
        other.create().forPath("/removed-watches/child");
        eventually("the other is still there", () ->
            events.equals(List.of("DataWatchRemoved", "NodeChildrenChanged")));
        try {
            client.watches().remove(watcher).ofType(Watcher.WatcherType.Any).forPath("/removed-watches");
            check(false, "there is no watch any more");
        } catch (KeeperException.NoWatcherException expected) {
            // As it should be.
        }
    }

    // ---- Nodes.

    static void persistentNode() throws Exception {
        CuratorFramework client = client(), other = client();
        PersistentNode node =
            new PersistentNode(client, CreateMode.EPHEMERAL, false, "/persistent-node/one", bytes("mine"));
        node.start();
        check(node.waitForInitialCreate(PATIENCE_MS, TimeUnit.MILLISECONDS), "it is made");
        Condition there = () -> other.checkExists().forPath("/persistent-node/one") != null;
        long owner = other.checkExists().forPath("/persistent-node/one").getEphemeralOwner();
        same(owner, client.getZookeeperClient().getZooKeeper().getSessionId(), "its owner");
        other.delete().forPath("/persistent-node/one");
        eventually("it is made again", there);
        kill(client);
        eventually("it is made again by the next session", () -> {
            Stat stat = other.checkExists().forPath("/persistent-node/one");
            return stat != null && stat.getEphemeralOwner() != owner;
        });
        same(text(other.getData().forPath("/persistent-node/one")), "mine", "its data");
        node.setData(bytes("new"));
        eventually("its data changes", () -> text(other.getData().forPath("/persistent-node/one")).equals("new"));
        node.close();
        eventually("it goes", () -> !there.holds());
        // Named by the server, and found again though the answer to the creation was lost.
        PersistentNode numbered = new PersistentNode(
            client, CreateMode.EPHEMERAL_SEQUENTIAL, true, "/persistent-node/n-", new byte[0]);
        numbered.start();
        check(numbered.waitForInitialCreate(PATIENCE_MS, TimeUnit.MILLISECONDS), "it is made");
        check(numbered.getActualPath().matches(".*/_c_[-0-9a-f]+-n-[0-9]{10}"), "numbered " + numbered.getActualPath());
        numbered.close();
    }

    static void ttlNode() throws Exception {
        CuratorFramework client = client(), other = client();
        PersistentTtlNode node = new PersistentTtlNode(client, "/ttl-node/one", 2000, bytes("ttl"));
        node.start();
        check(node.waitForInitialCreate(PATIENCE_MS, TimeUnit.MILLISECONDS), "it is made");
        same(text(other.getData().forPath("/ttl-node/one")), "ttl", "its data");
        Thread.sleep(4500); // it is kept alive
        check(other.checkExists().forPath("/ttl-node/one") != null, "it lives as long as it is touched");
        node.close();
        eventually("it goes", () -> other.checkExists().forPath("/ttl-node/one") == null);
        // Without anybody who touches it.
        other.create().withTtl(500).withMode(CreateMode.PERSISTENT_WITH_TTL).forPath("/ttl-node/two");
        String path = other.create().withTtl(500).withMode(CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL)
            .forPath("/ttl-node/n-");
        eventually("both go", () -> other.checkExists().forPath("/ttl-node/two") == null
            && other.checkExists().forPath(path) == null);
    }

    static void containers() throws Exception {
        CuratorFramework client = client();
        client.create().creatingParentContainersIfNeeded().forPath("/containers/a/b");
        Thread.sleep(1500);
        check(client.checkExists().forPath("/containers/a") != null, "it has a child");
        client.delete().forPath("/containers/a/b");
        eventually("containers go when they are empty", () -> client.checkExists().forPath("/containers") == null);
    }

    static void groupMember() throws Exception {
        List<GroupMember> members = new ArrayList<>();
        List<CuratorFramework> clients = List.of(client(), client(), client());
        for (int number = 0; number < 3; number++) {
            GroupMember member = new GroupMember(clients.get(number), "/group", "m" + number, bytes("d" + number));
            member.start();
            members.add(member);
        }
        for (GroupMember member : members) {
            eventually("all know all", () -> member.getCurrentMembers().size() == 3);
            same(text(member.getCurrentMembers().get("m1")), "d1", "what a member tells");
        }
        members.get(1).setThisData(bytes("new"));
        eventually("it tells more", () -> text(members.get(0).getCurrentMembers().get("m1")).equals("new"));
        members.get(2).close();
        eventually("one went", () -> members.get(0).getCurrentMembers().keySet().equals(Set.of("m0", "m1")));
        kill(clients.get(1));
        eventually("it is back with another session", () -> {
            Stat stat = clients.get(0).checkExists().forPath("/group/m1");
            return stat != null && stat.getEphemeralOwner()
                == clients.get(1).getZookeeperClient().getZooKeeper().getSessionId();
        });
        members.get(0).close();
        members.get(1).close();
    }

    // ---- Counters.

    static void sharedCount() throws Exception {
        SharedCount one = new SharedCount(client(), "/shared-count", 10);
        SharedCount two = new SharedCount(client(), "/shared-count", 10);
        one.start();
        two.start();
        AtomicInteger told = new AtomicInteger();
        two.addListener(new SharedCountListener() {
            public void countHasChanged(SharedCountReader count, int value) {
                told.set(value);
            }

            public void stateChanged(CuratorFramework client, ConnectionState state) {}
        });
        same(one.getCount(), 10, "its seed");
        VersionedValue<Integer> old = two.getVersionedValue();
        one.setCount(11);
        eventually("the other is told", () -> told.get() == 11 && two.getCount() == 11);
        check(!two.trySetCount(old, 99), "a change of what has changed");
        check(two.trySetCount(two.getVersionedValue(), 12), "a change of what is there");
        eventually("both have it", () -> one.getCount() == 12);
        one.close();
        two.close();
    }

    static void atomicLong() throws Exception {
        List<Future<?>> workers = new ArrayList<>();
        for (CuratorFramework client : List.of(client(), client(), client())) {
            workers.add(start(() -> {
                PromotedToLock promoted = PromotedToLock.builder().lockPath("/atomic-lock")
                    .retryPolicy(new RetryNTimes(10, 5)).build();
                DistributedAtomicLong number =
                    new DistributedAtomicLong(client, "/atomic", new RetryNTimes(3, 1), promoted);
                for (int round = 0; round < 20; round++) {
                    AtomicValue<Long> value;
                    do {
                        value = number.add(3L);
                    } while (!value.succeeded());
                    same(value.postValue() - value.preValue(), 3L, "one addition");
                }
            }));
        }
        for (Future<?> worker : workers) {
            end(worker);
        }
        DistributedAtomicLong number = new DistributedAtomicLong(client(), "/atomic", new RetryNTimes(3, 1));
        same(number.get().postValue(), 180L, "the sum");
        check(!number.compareAndSet(1L, 2L).succeeded(), "it is not 1");
        check(number.compareAndSet(180L, -1L).succeeded(), "it is 180");
        same(number.decrement().postValue(), -2L, "one less");
    }

    // ---- Transactions.

    static void transactions() throws Exception {
        CuratorFramework client = client();
        List<CuratorTransactionResult> done = client.transaction().forOperations(
            client.transactionOp().create().forPath("/transactions", bytes("0")),
            client.transactionOp().create().withMode(CreateMode.EPHEMERAL_SEQUENTIAL)
                .forPath("/transactions/e-"),
            client.transactionOp().setData().withVersion(0).forPath("/transactions", bytes("1")),
            client.transactionOp().check().withVersion(1).forPath("/transactions"),
            client.transactionOp().delete().forPath("/transactions/e-0000000000"));
        same(done.size(), 5, "results");
        same(done.get(1).getResultPath(), "/transactions/e-0000000000", "the name of a created node");
        same(done.get(2).getResultStat().getVersion(), 1, "the Stat of changed data");
        try {
            client.transaction().forOperations(
                client.transactionOp().setData().forPath("/transactions", bytes("2")),
                client.transactionOp().check().withVersion(9).forPath("/transactions"),
                client.transactionOp().delete().forPath("/transactions"));
            check(false, "a wrong version went through");
        } catch (KeeperException.BadVersionException error) {
            List<Integer> codes = new ArrayList<>();
            for (OpResult result : error.getResults()) {
                codes.add(((OpResult.ErrorResult) result).getErr());
            }
            same(codes, List.of(0, KeeperException.Code.BADVERSION.intValue(),
                KeeperException.Code.RUNTIMEINCONSISTENCY.intValue()), "what each part answers");
        }
        same(text(client.getData().forPath("/transactions")), "1", "all or nothing");
    }
}
