/* The leanest load on Redis and on ZooKeeper: cycles of acquire and release, each client waiting for its own replies.
 *
 * rawload redis|zookeeper PORTS CLIENTS CONNECTIONS NAMES
 *
 * PORTS of 127.0.0.1, with commas; connections are spread over them and clients over connections. Each client works
 * through NAMES names of its own. First it proves, on one name, that a second acquire is refused and that a release
 * releases; then it says "ready" and runs until a line "SINCE UNTIL" (seconds of CLOCK_MONOTONIC) comes on standard
 * input; then it writes how many cycles ended within, and of each the seconds that its acquire and the whole of it took:
 * a 64-bit count and two arrays of doubles.
 *
 * Both protocols answer a connection's requests in order, so clients that share one need no numbers.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "rawload_protocols.h"

enum { REQUEST_MAX = 256, REPLY_MAX = 16384 };

struct connection {
    int fd;
    struct client **asked;  /* ring: who waits for a reply, oldest first */
    uint32_t clients, first, waiting;
    char *out, in[REPLY_MAX];
    size_t to_send, filled;
};

struct record { double ended, acquire_s, cycle_s; };

static struct record *records;
static size_t recorded, room;

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void flush(struct connection *connection) {
    for (size_t sent = 0; sent < connection->to_send;) {
        ssize_t count = send(connection->fd, connection->out + sent, connection->to_send - sent, MSG_NOSIGNAL);
        if (count <= 0) fail("the server closed a connection");
        sent += count;
    }
    connection->to_send = 0;
}

static const struct protocol *protocol;

static void ask(struct connection *connection, struct client *client) {
    connection->to_send += protocol->request(client, client->holding, connection->out + connection->to_send);
    connection->asked[(connection->first + connection->waiting++) % connection->clients] = client;
}

static int receive(struct connection *connection, enum verdict *verdict) {
    size_t size = protocol->reply(connection->in, connection->filled, verdict);
    if (size) memmove(connection->in, connection->in + size, connection->filled -= size);
    return size > 0;
}

static void read_some(struct connection *connection) {
    char *end = connection->in + connection->filled;
    ssize_t count = recv(connection->fd, end, sizeof connection->in - connection->filled, 0);
    if (count <= 0) fail("the server closed a connection");
    connection->filled += count;
}

static void prove(struct connection *connection) {
    static const struct { int release; enum verdict expected; } STEPS[] = {
        {0, GRANTED}, {0, REFUSED}, {1, GRANTED}, {0, GRANTED}, {1, GRANTED}};
    struct client client = {.number = UINT32_MAX};
    for (size_t step = 0; step < sizeof STEPS / sizeof *STEPS; step++) {
        enum verdict verdict;
        connection->to_send = protocol->request(&client, STEPS[step].release, connection->out);
        flush(connection);
        do read_some(connection); while (!receive(connection, &verdict));
        if (verdict != STEPS[step].expected) fail("step %zu: grants are not exclusive, or releases do not", step);
    }
}

static void answered(struct client *client, enum verdict verdict, uint32_t names) {
    if (verdict == REFUSED) fail("a name of one client's own was refused to it");
    double at = now();
    client->holding = !client->holding;
    if (client->holding) {
        client->acquired = at;
        return;
    }
    if (recorded == room) records = realloc(records, (room = 2 * room + 65536) * sizeof *records);
    if (!records) fail("no memory");
    records[recorded++] = (struct record){at, client->acquired - client->began, at - client->began};
    client->name = (client->name + 1) % names;
    client->began = at;
}

static void serve(struct connection *connection, uint32_t names) {
    enum verdict verdict;
    read_some(connection);
    while (receive(connection, &verdict)) {
        struct client *client = connection->asked[connection->first];
        connection->first = (connection->first + 1) % connection->clients;
        connection->waiting--;
        answered(client, verdict, names);
        ask(connection, client);
    }
    flush(connection);
}

static void report(void) {
    double since, until;
    if (scanf("%lf %lf", &since, &until) != 2) exit(1);  /* who measures is gone */
    uint64_t count = 0;
    for (size_t each = 0; each < recorded; each++)
        if (records[each].ended >= since && records[each].ended < until) records[count++] = records[each];
    fwrite(&count, sizeof count, 1, stdout);
    for (size_t each = 0; each < count; each++) fwrite(&records[each].acquire_s, sizeof(double), 1, stdout);
    for (size_t each = 0; each < count; each++) fwrite(&records[each].cycle_s, sizeof(double), 1, stdout);
}

static void dial(struct connection *connection, int port, uint32_t clients) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(connection->fd, (struct sockaddr *)&to, sizeof to)) fail("nobody listens at port %d", port);
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    connection->clients = clients;
    connection->asked = calloc(clients, sizeof *connection->asked);
    connection->out = malloc((size_t)clients * REQUEST_MAX);
    if (!connection->asked || !connection->out) fail("no memory");
    protocol->greet(connection->fd);
}

int main(int count, char **words) {
    for (size_t each = 0; count == 6 && each < sizeof PROTOCOLS / sizeof *PROTOCOLS; each++)
        if (!strcmp(words[1], PROTOCOLS[each].name)) protocol = &PROTOCOLS[each];
    process = getpid();
    if (!protocol) fail("usage: rawload redis|zookeeper PORTS CLIENTS CONNECTIONS NAMES");
    uint32_t clients = atoi(words[3]), lines = atoi(words[4]), names = atoi(words[5]), ports = 0;
    int port[16];
    for (char *each = strtok(words[2], ","); each && ports < 16; each = strtok(NULL, ",")) port[ports++] = atoi(each);
    if (!ports || !lines || lines > clients || !names) fail("PORTS, CONNECTIONS, NAMES: one or more; no idle connection");
    struct connection *connections = calloc(lines, sizeof *connections);
    struct client *client = calloc(clients, sizeof *client);
    int poll = epoll_create1(0);
    if (!connections || !client || poll < 0) fail("no memory");
    for (uint32_t each = 0; each < lines; each++) {
        dial(&connections[each], port[each % ports], (clients - each + lines - 1) / lines);
        struct epoll_event want = {EPOLLIN, {.ptr = &connections[each]}};
        epoll_ctl(poll, EPOLL_CTL_ADD, connections[each].fd, &want);
    }
    prove(connections);
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &(struct epoll_event){EPOLLIN, {.ptr = NULL}});
    for (uint32_t each = 0; each < clients; each++) {
        client[each] = (struct client){.number = each, .began = now()};
        ask(&connections[each % lines], &client[each]);
    }
    for (uint32_t each = 0; each < lines; each++) flush(&connections[each]);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event ready[256];
        int found = epoll_wait(poll, ready, 256, -1);
        for (int each = 0; each < found; each++) {
            if (!ready[each].data.ptr) return report(), 0;
            serve(ready[each].data.ptr, names);
        }
    }
}
