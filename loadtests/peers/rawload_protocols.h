/* What `rawload` speaks: how a connection begins, what a request is, and how long a reply and what it says. */
#include <endian.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { TTL_MS = 30000 };
enum verdict { GRANTED, REFUSED };

struct client { uint32_t number, name; int holding; double began, acquired; };

static int process;  /* part of every name: what a run before this held when it ended is none of ours */

static void fail(const char *why, ...) {
    va_list details;
    va_start(details, why);
    fputs("rawload: ", stderr);
    vfprintf(stderr, why, details);
    fputc('\n', stderr);
    exit(1);
}

/* Redis: SET NX PX with a token of the client's, and a script that deletes the key if the token is still there. */

static char script_digest[41];
static const char RELEASE[] = "if redis.call('get',KEYS[1])==ARGV[1] then return redis.call('del',KEYS[1]) end return 0";

static size_t redis_request(const struct client *client, int release, char *out) {
    char name[48], token[16];
    int name_size = sprintf(name, "n/%d/%u/%u", process, client->number, client->name);
    int token_size = sprintf(token, "%u", client->number);
    if (release)
        return sprintf(out, "*5\r\n$7\r\nEVALSHA\r\n$40\r\n%s\r\n$1\r\n1\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", script_digest,
                       name_size, name, token_size, token);
    return sprintf(out, "*6\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n$2\r\nNX\r\n$2\r\nPX\r\n$5\r\n%d\r\n", name_size,
                   name, token_size, token, TTL_MS);
}

static size_t redis_reply(const char *in, size_t filled, enum verdict *verdict) {
    const char *end = memchr(in, '\n', filled);
    if (!end) return 0;
    if (in[0] == '-') fail("Redis says %.*s", (int)(end - in), in);
    *verdict = in[0] == '+' || !memcmp(in, ":1", 2) ? GRANTED : REFUSED;
    return end - in + 1;
}

static void redis_greet(int fd) {
    char text[512];
    int size = sprintf(text, "*3\r\n$6\r\nSCRIPT\r\n$4\r\nLOAD\r\n$%zu\r\n%s\r\n", sizeof RELEASE - 1, RELEASE);
    if (send(fd, text, size, MSG_NOSIGNAL) != size || recv(fd, text, 47, MSG_WAITALL) != 47)
        fail("Redis did not take the script");
    memcpy(script_digest, text + 5, 40);
}

/* ZooKeeper: create an ephemeral node, and delete it; a connection is a session. */

static char *put_int(char *out, uint32_t value) {
    value = htobe32(value);
    return (char *)memcpy(out, &value, 4) + 4;
}

static char *put_text(char *out, const char *text, uint32_t size) {
    return (char *)memcpy(put_int(out, size), text, size) + size;
}

static uint32_t get_int(const char *in) {
    uint32_t value;
    memcpy(&value, in, 4);
    return be32toh(value);
}

static size_t zookeeper_request(const struct client *client, int release, char *out) {
    enum { XID = 1, CREATE = 1, DELETE = 2, ALL_RIGHTS = 31, EPHEMERAL = 1 };
    char path[48], *end = put_int(put_int(out + 4, XID), release ? DELETE : CREATE);
    end = put_text(end, path, sprintf(path, "/n-%d-%u-%u", process, client->number, client->name));
    if (release) {
        end = put_int(end, -1);  /* any version */
    } else {
        end = put_int(put_int(put_text(end, "", 0), 1), ALL_RIGHTS);
        end = put_int(put_text(put_text(end, "world", 5), "anyone", 6), EPHEMERAL);
    }
    put_int(out, end - out - 4);
    return end - out;
}

static size_t zookeeper_reply(const char *in, size_t filled, enum verdict *verdict) {
    enum { OK = 0, NODE_EXISTS = -110 };
    if (filled < 4 || filled < 4 + get_int(in)) return 0;
    int32_t error = get_int(in + 16);
    if (error != OK && error != NODE_EXISTS) fail("ZooKeeper answers with error %d", error);
    *verdict = error == OK ? GRANTED : REFUSED;
    return 4 + get_int(in);
}

static void zookeeper_greet(int fd) {
    char text[64] = {0};
    put_int(text, 45);
    put_int(text + 16, TTL_MS);
    put_int(text + 28, 16);
    if (send(fd, text, 49, MSG_NOSIGNAL) != 49 || recv(fd, text, 4, MSG_WAITALL) != 4) fail("no session");
    uint32_t size = get_int(text);
    if (size > sizeof text || recv(fd, text, size, MSG_WAITALL) != size) fail("no session");
}

static const struct protocol {
    const char *name;
    void (*greet)(int fd);
    size_t (*request)(const struct client *client, int release, char *out);
    size_t (*reply)(const char *in, size_t filled, enum verdict *verdict);  /* how long it is, 0 when incomplete */
} PROTOCOLS[] = {{"redis", redis_greet, redis_request, redis_reply},
                 {"zookeeper", zookeeper_greet, zookeeper_request, zookeeper_reply}};
