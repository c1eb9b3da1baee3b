/* What a program does with ZooKeeper's C client:  scenario HOST:PORT
 *
 * Nodes, watches, a multi, ACLs and a lock by sequential ephemerals; then the server is restarted
 * (`restart kill` goes to stdout, a line comes back on stdin) and session, ephemerals and watches
 * must live on. Exits 0 when everything was as it must be. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zookeeper/zookeeper.h>

#define MUST(condition)                                                                   \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "scenario.c:%d: not so: %s\n", __LINE__, #condition);         \
            exit(1);                                                                      \
        }                                                                                 \
    } while (0)

enum { PATIENCE_MS = 20000, EVENTS_MAX = 64 };

struct event {
    int type;
    char path[128];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct event events[EVENTS_MAX];
static int event_count;
static int connections;

static void on_event(zhandle_t *zh, int type, int state, const char *path, void *context) {
    (void)zh;
    (void)context;
    pthread_mutex_lock(&mutex);
    if (type == ZOO_SESSION_EVENT) {
        connections += state == ZOO_CONNECTED_STATE;
    } else if (event_count < EVENTS_MAX) {
        events[event_count].type = type;
        snprintf(events[event_count].path, sizeof events[event_count].path, "%s", path);
        event_count++;
    }
    pthread_mutex_unlock(&mutex);
}

static int connection_count(void) {
    pthread_mutex_lock(&mutex);
    int count = connections;
    pthread_mutex_unlock(&mutex);
    return count;
}

/* Waits for exactly this event, the next one. */
static void expect(int type, const char *path) {
    for (int waited = 0; waited < PATIENCE_MS; waited += 5) {
        pthread_mutex_lock(&mutex);
        if (event_count > 0) {
            struct event found = events[0];
            memmove(events, events + 1, sizeof events[0] * (size_t)--event_count);
            pthread_mutex_unlock(&mutex);
            if (found.type != type || strcmp(found.path, path) != 0) {
                fprintf(stderr, "event %d on %s, expected %d on %s\n", found.type, found.path, type, path);
                exit(1);
            }
            return;
        }
        pthread_mutex_unlock(&mutex);
        usleep(5000);
    }
    fprintf(stderr, "no event, expected %d on %s\n", type, path);
    exit(1);
}

static void wait_for_connections(int count) {
    for (int waited = 0; connection_count() < count; waited += 5) {
        MUST(waited < PATIENCE_MS);
        usleep(5000);
    }
}

static zhandle_t *connect_to(const char *hosts, int timeout_ms) {
    int before = connection_count();
    zhandle_t *zh = zookeeper_init(hosts, on_event, timeout_ms, NULL, NULL, 0);
    MUST(zh != NULL);
    wait_for_connections(before + 1);
    return zh;
}

static void restart(const char *how) {
    char line[64];
    printf("restart %s\n", how);
    fflush(stdout);
    MUST(fgets(line, sizeof line, stdin) != NULL && strcmp(line, "restarted\n") == 0);
}

static void nodes(zhandle_t *zh) {
    char buffer[256];
    int length = sizeof buffer;
    struct Stat stat;
    MUST(zoo_create(zh, "/c", "data", 4, &ZOO_OPEN_ACL_UNSAFE, 0, buffer, sizeof buffer) == ZOK);
    MUST(strcmp(buffer, "/c") == 0);
    MUST(zoo_create(zh, "/c", "data", 4, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZNODEEXISTS);
    MUST(zoo_get(zh, "/c", 0, buffer, &length, &stat) == ZOK);
    MUST(length == 4 && memcmp(buffer, "data", 4) == 0 && stat.version == 0);
    MUST(zoo_set2(zh, "/c", "more", 4, 0, &stat) == ZOK && stat.version == 1);
    MUST(zoo_set(zh, "/c", "late", 4, 0) == ZBADVERSION);
    MUST(zoo_create2(zh, "/c/two", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, buffer, sizeof buffer, &stat) == ZOK);
    length = sizeof buffer;
    MUST(zoo_get(zh, "/c/two", 0, buffer, &length, &stat) == ZOK && length == -1);
    struct String_vector names;
    MUST(zoo_get_children2(zh, "/c", 0, &names, &stat) == ZOK);
    MUST(names.count == 1 && strcmp(names.data[0], "two") == 0 && stat.numChildren == 1);
    deallocate_String_vector(&names);
    MUST(zoo_delete(zh, "/c", -1) == ZNOTEMPTY);
    MUST(zoo_delete(zh, "/c/two", 0) == ZOK);
    MUST(zoo_exists(zh, "/c/two", 0, &stat) == ZNONODE);
}

static void modes(zhandle_t *zh) {
    struct Stat stat;
    char path[64];
    const struct ACL_vector *open = &ZOO_OPEN_ACL_UNSAFE;
    MUST(zoo_create(zh, "/c/n-", "", 0, open, ZOO_SEQUENCE, path, sizeof path) == ZOK);
    const char *number = path + strlen("/c/n-");
    MUST(strlen(number) == 10 && strspn(number, "0123456789") == 10);
    MUST(zoo_delete(zh, path, -1) == ZOK);
    int both = ZOO_EPHEMERAL | ZOO_SEQUENCE;
    MUST(zoo_create2(zh, "/c/e-", "", 0, open, both, path, sizeof path, &stat) == ZOK);
    MUST(stat.ephemeralOwner == zoo_client_id(zh)->client_id);
    char below[80];
    snprintf(below, sizeof below, "%s/child", path);
    MUST(zoo_create(zh, below, "", 0, open, 0, NULL, 0) == ZNOCHILDRENFOREPHEMERALS);
    MUST(zoo_delete(zh, path, -1) == ZOK);
    MUST(zoo_create2(zh, "/c/box", "", 0, open, ZOO_CONTAINER, path, sizeof path, &stat) == ZOK);
    MUST(strcmp(path, "/c/box") == 0 && stat.ephemeralOwner == 0);
    MUST(zoo_delete(zh, path, -1) == ZOK);
    int ttl = ZOO_PERSISTENT_WITH_TTL, numbered_ttl = ZOO_PERSISTENT_SEQUENTIAL_WITH_TTL;
    MUST(zoo_create_ttl(zh, "/c/t", "", 0, open, ttl, 60000, path, sizeof path) == ZOK);
    MUST(zoo_exists(zh, "/c/t", 0, &stat) == ZOK && stat.ephemeralOwner == 0);
    MUST(zoo_delete(zh, path, -1) == ZOK);
    MUST(zoo_create2_ttl(zh, "/c/t-", "", 0, open, numbered_ttl, 60000, path, sizeof path, &stat) == ZOK);
    MUST(strncmp(path, "/c/t-", 5) == 0 && strlen(path) == 15);
    MUST(zoo_delete(zh, path, -1) == ZOK);
    MUST(zoo_create_ttl(zh, "/c/t", "", 0, open, ttl, 0, path, sizeof path) == ZBADARGUMENTS);
}

static void removed_watches(zhandle_t *zh, zhandle_t *other) {
    struct Stat stat;
    MUST(zoo_wexists(zh, "/c/r", on_event, NULL, &stat) == ZNONODE);
    MUST(zoo_remove_watches(zh, "/c/r", ZWATCHTYPE_DATA, on_event, NULL, 0) == ZOK);
    MUST(zoo_create(other, "/c/r", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    MUST(zoo_remove_watches(zh, "/c/r", ZWATCHTYPE_DATA, on_event, NULL, 0) == ZNOWATCHER);
    MUST(zoo_delete(other, "/c/r", -1) == ZOK);
    /* The next event that is seen is of another watch. */
    MUST(zoo_wexists(zh, "/c/s", on_event, NULL, &stat) == ZNONODE);
    MUST(zoo_create(other, "/c/s", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    expect(ZOO_CREATED_EVENT, "/c/s");
    MUST(zoo_delete(other, "/c/s", -1) == ZOK);
}

static void watches(zhandle_t *zh, zhandle_t *other) {
    struct Stat stat;
    struct String_vector names;
    char buffer[64];
    int length = sizeof buffer;
    MUST(zoo_wexists(zh, "/c/w", on_event, NULL, &stat) == ZNONODE);
    MUST(zoo_create(other, "/c/w", "1", 1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    expect(ZOO_CREATED_EVENT, "/c/w");
    MUST(zoo_wget(zh, "/c/w", on_event, NULL, buffer, &length, &stat) == ZOK);
    MUST(zoo_set(other, "/c/w", "2", 1, -1) == ZOK);
    expect(ZOO_CHANGED_EVENT, "/c/w");
    MUST(zoo_wget_children(zh, "/c", on_event, NULL, &names) == ZOK);
    deallocate_String_vector(&names);
    MUST(zoo_delete(other, "/c/w", -1) == ZOK);
    expect(ZOO_CHILD_EVENT, "/c");
}

static void multi(zhandle_t *zh) {
    char path[64];
    struct Stat stat;
    zoo_op_t ops[4];
    zoo_op_result_t results[4];
    zoo_create_op_init(&ops[0], "/c/m", "x", 1, &ZOO_OPEN_ACL_UNSAFE, 0, path, sizeof path);
    zoo_set_op_init(&ops[1], "/c/m", "y", 1, 0, &stat);
    zoo_check_op_init(&ops[2], "/c/m", 1);
    zoo_delete_op_init(&ops[3], "/c/m", 1);
    MUST(zoo_multi(zh, 3, ops, results) == ZOK);
    MUST(strcmp(path, "/c/m") == 0 && stat.version == 1);
    zoo_set_op_init(&ops[0], "/c/m", "z", 1, -1, &stat);
    zoo_check_op_init(&ops[1], "/c/m", 77);
    MUST(zoo_multi(zh, 2, ops, results) == ZBADVERSION);
    MUST(results[1].err == ZBADVERSION);
    MUST(zoo_exists(zh, "/c/m", 0, &stat) == ZOK && stat.version == 1);
    MUST(zoo_multi(zh, 1, &ops[3], results) == ZOK);
    MUST(zoo_exists(zh, "/c/m", 0, &stat) == ZNONODE);
}

static void on_auth(int rc, const void *context) {
    *(volatile int *)context = rc == ZOK ? 1 : rc;
}

/* What a client that authenticates so is told; 1 for ZOK. */
static int authenticate(zhandle_t *zh, const char *scheme, const char *auth) {
    volatile int done = 0;
    int length = (int)strlen(auth);
    MUST(zoo_add_auth(zh, scheme, auth, length, on_auth, (const void *)&done) == ZOK);
    for (int waited = 0; done == 0; waited += 5) {
        MUST(waited < PATIENCE_MS);
        usleep(5000);
    }
    return done;
}

static void acls(zhandle_t *zh, zhandle_t *other) {
    char buffer[64];
    int length = sizeof buffer;
    struct Stat stat;
    MUST(authenticate(zh, "digest", "owner:secret") == 1);
    MUST(zoo_create(zh, "/c/mine", "s", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0) == ZOK);
    MUST(zoo_get(other, "/c/mine", 0, buffer, &length, &stat) == ZNOAUTH);
    MUST(zoo_set(other, "/c/mine", "t", 1, -1) == ZNOAUTH);
    struct ACL_vector acl;
    MUST(zoo_get_acl(zh, "/c/mine", &acl, &stat) == ZOK);
    MUST(acl.count == 1 && strcmp(acl.data[0].id.scheme, "digest") == 0);
    deallocate_ACL_vector(&acl);
    MUST(zoo_set_acl(zh, "/c/mine", 0, &ZOO_OPEN_ACL_UNSAFE) == ZOK);
    MUST(zoo_set(other, "/c/mine", "t", 1, -1) == ZOK);
}

/* Digest, ip and world in one ACL; who else may read sees no digests; what no ACL may hold. */
static void strangers(zhandle_t *zh, const char *hosts) {
    char buffer[64];
    int length = sizeof buffer;
    struct Stat stat;
    struct ACL entries[] = {{ZOO_PERM_READ, {"world", "anyone"}},
                            {ZOO_PERM_WRITE, {"ip", "127.0.0.0/8"}},
                            {ZOO_PERM_ALL, {"auth", ""}}};
    struct ACL_vector mixed = {3, entries}, acl;
    MUST(zoo_create(zh, "/c/mixed", "s", 1, &mixed, 0, NULL, 0) == ZOK);
    MUST(zoo_create(zh, "/c/hidden", "s", 1, &ZOO_CREATOR_ALL_ACL, 0, NULL, 0) == ZOK);
    zhandle_t *other = connect_to(hosts, 8000);
    MUST(authenticate(other, "digest", "owner:guess") == 1);
    MUST(zoo_get(other, "/c/hidden", 0, buffer, &length, &stat) == ZNOAUTH);
    MUST(zoo_exists(other, "/c/hidden", 0, &stat) == ZNOAUTH);
    MUST(zoo_get_acl(other, "/c/hidden", &acl, &stat) == ZNOAUTH);
    MUST(zoo_set(other, "/c/mixed", "t", 1, -1) == ZOK);
    MUST(zoo_create(other, "/c/mixed/d", "", 0, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZNOAUTH);
    MUST(zoo_set_acl(other, "/c/mixed", -1, &ZOO_OPEN_ACL_UNSAFE) == ZNOAUTH);
    MUST(zoo_get_acl(other, "/c/mixed", &acl, &stat) == ZOK && acl.count == 3);
    MUST(strcmp(acl.data[2].id.scheme, "digest") == 0 && strcmp(acl.data[2].id.id, "owner:x") == 0);
    deallocate_ACL_vector(&acl);
    MUST(authenticate(other, "digest", "owner:secret") == 1);
    length = sizeof buffer;
    MUST(zoo_get(other, "/c/hidden", 0, buffer, &length, &stat) == ZOK && length == 1);
    MUST(zoo_get_acl(other, "/c/mixed", &acl, &stat) == ZOK && acl.count == 3);
    MUST(strlen(acl.data[2].id.id) == strlen("owner:") + 28);
    deallocate_ACL_vector(&acl);
    entries[1].id.id = "127.0.0.1/33";
    MUST(zoo_set_acl(other, "/c/mixed", -1, &mixed) == ZINVALIDACL);
    MUST(zoo_delete(other, "/c/hidden", -1) == ZOK && zoo_delete(other, "/c/mixed", -1) == ZOK);
    MUST(authenticate(other, "nosuch", "x") == ZAUTHFAILED);
    MUST(zoo_state(other) == ZOO_AUTH_FAILED_STATE);
    zookeeper_close(other);
}

/* The lock of the recipes: the lowest sequential ephemeral holds it, the next one watches it. */
static void lock(zhandle_t *zh, const char *hosts) {
    char holding[64], waiting[64];
    struct Stat stat;
    const int flags = ZOO_EPHEMERAL | ZOO_SEQUENCE;
    zhandle_t *holder = connect_to(hosts, 8000);
    MUST(zoo_create(zh, "/c/lock", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, 0, NULL, 0) == ZOK);
    MUST(zoo_create(holder, "/c/lock/l-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, flags, holding, sizeof holding) == ZOK);
    MUST(zoo_create(zh, "/c/lock/l-", NULL, -1, &ZOO_OPEN_ACL_UNSAFE, flags, waiting, sizeof waiting) == ZOK);
    MUST(strcmp(holding, "/c/lock/l-0000000000") == 0 && strcmp(waiting, "/c/lock/l-0000000001") == 0);
    MUST(zoo_wexists(zh, holding, on_event, NULL, &stat) == ZOK);
    MUST(stat.ephemeralOwner == zoo_client_id(holder)->client_id);
    MUST(zookeeper_close(holder) == ZOK);
    expect(ZOO_DELETED_EVENT, holding);
    MUST(zoo_delete(zh, waiting, -1) == ZOK);
}

static void reconnect(zhandle_t *zh, zhandle_t *other) {
    struct Stat stat;
    char buffer[64];
    int length = sizeof buffer;
    int64_t session = zoo_client_id(zh)->client_id;
    MUST(zoo_create(zh, "/c/e", "", 0, &ZOO_OPEN_ACL_UNSAFE, ZOO_EPHEMERAL, NULL, 0) == ZOK);
    const char *ways[] = {"kill", "term"};
    for (int round = 0; round < 2; round++) {
        MUST(zoo_wget(zh, "/c", on_event, NULL, buffer, &length, &stat) == ZOK);
        int before = connection_count();
        restart(ways[round]);
        wait_for_connections(before + 2);
        MUST(zoo_client_id(zh)->client_id == session);
        MUST(zoo_exists(other, "/c/e", 0, &stat) == ZOK && stat.ephemeralOwner == session);
        MUST(zoo_set(other, "/c", "new", 3, -1) == ZOK);
        expect(ZOO_CHANGED_EVENT, "/c");
        length = sizeof buffer;
    }
    MUST(zookeeper_close(zh) == ZOK);
    MUST(zoo_exists(other, "/c/e", 0, &stat) == ZNONODE);
}

int main(int argc, char **argv) {
    MUST(argc == 2);
    /* The library reports every refused connection while the server is down. */
    zoo_set_debug_level((ZooLogLevel)0);
    zhandle_t *zh = connect_to(argv[1], 8000);
    zhandle_t *other = connect_to(argv[1], 8000);
    nodes(zh);
    modes(zh);
    watches(zh, other);
    removed_watches(zh, other);
    multi(zh);
    acls(zh, other);
    strangers(zh, argv[1]);
    lock(zh, argv[1]);
    reconnect(zh, other);
    MUST(zookeeper_close(other) == ZOK);
    return 0;
}
