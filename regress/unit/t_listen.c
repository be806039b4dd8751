/*
 * t_listen.c
 *	  Listening sockets: what is opened, and what is said when it cannot be.
 */
/* needs: comm */
#include "server.h"

/* system */
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* this layer and below */
#include "comm/conn.h"
#include "comm/listen.h"

#define MAX 8

static Listener listeners[MAX];
static char error[512];
static char dir[64];

static int
setup(void **state)
{
	strcpy(dir, "/tmp/t_listen.XXXXXX");
	error[0] = '\0';
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
teardown(void **state)
{
	char		command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static int
open_all(const char *urls)
{
	return listen_open(urls, listeners, MAX, error, sizeof(error));
}

static int
port_of(const Listener *listener)
{
	return atoi(strrchr(listener->address, ':') + 1);
}

static void
assert_fails(const char *urls, const char *text)
{
	assert_int_equal(open_all(urls), -1);
	if (strstr(error, text) == NULL)
		fail_msg("\"%s\" gave \"%s\", expected \"%s\"", urls, error, text);
}

/* connect, and check what the server calls its client */
static void
assert_accepts(const Listener *listener, const char *peer_begin)
{
	struct sockaddr_storage addr;
	socklen_t	len = sizeof(addr);
	int			fd;
	int			accepted;
	Conn	   *conn;

	assert_int_equal(getsockname(listener->fd, (struct sockaddr *) &addr, &len), 0);
	fd = socket(addr.ss_family, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *) &addr, len), 0);
	accepted = accept(listener->fd, NULL, NULL);
	assert_true(accepted >= 0);
	conn = conn_create(accepted, NULL);
	assert_int_equal(conn_handshake(conn), CONN_OK);
	assert_false(conn_is_tls(conn));
	assert_string_equal(conn_alpn(conn), "");
	assert_int_equal(conn_common_name(conn).len, 0);
	if (strncmp(conn_peer_name(conn), peer_begin, strlen(peer_begin)) != 0)
		fail_msg("peer is called %s", conn_peer_name(conn));
	conn_destroy(conn);
	close(fd);
}

static void
test_addresses(void **state)
{
	int			n = open_all("http://127.0.0.1:0, https://[::1]:0");

	assert_int_equal(n, 2);
	assert_false(listeners[0].is_tls);
	assert_true(listeners[1].is_tls);
	assert_string_equal(listeners[1].url, "https://[::1]:0");
	assert_int_equal(strncmp(listeners[0].address, "127.0.0.1:", 10), 0);
	assert_int_equal(strncmp(listeners[1].address, "[::1]:", 6), 0);
	for (int i = 0; i < n; i++)
	{
		assert_true(port_of(&listeners[i]) > 0);
		assert_true(fcntl(listeners[i].fd, F_GETFD) & FD_CLOEXEC);
		assert_true(fcntl(listeners[i].fd, F_GETFL) & O_NONBLOCK);
	}
	assert_accepts(&listeners[0], "127.0.0.1:");
	assert_accepts(&listeners[1], "[::1]:");
	listen_close(listeners, n);
	assert_int_equal(listeners[0].fd, -1);
	listen_close(listeners, n);
}

static void
test_localhost(void **state)
{
	int			n = open_all("http://localhost:0");

	assert_in_range(n, 1, 2);
	assert_int_equal(strncmp(listeners[0].address, "127.0.0.1:", 10), 0);
	if (n == 2)
	{
		assert_int_equal(strncmp(listeners[1].address, "[::1]:", 6), 0);
		assert_int_equal(port_of(&listeners[0]), port_of(&listeners[1]));
	}
	listen_close(listeners, n);
}

static void
test_any_address(void **state)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	int			fd = socket(AF_INET, SOCK_STREAM, 0);
	int			accepted;
	Conn	   *conn;

	/* [::] takes IPv4 too, and shows it as such */
	assert_int_equal(open_all("http://[::]:0"), 1);
	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	v4.sin_port = htons((uint16_t) port_of(&listeners[0]));
	assert_int_equal(connect(fd, (struct sockaddr *) &v4, sizeof(v4)), 0);
	accepted = accept(listeners[0].fd, NULL, NULL);
	conn = conn_create(accepted, NULL);
	assert_int_equal(strncmp(conn_peer_name(conn), "127.0.0.1:", 10), 0);
	conn_destroy(conn);
	close(fd);
	listen_close(listeners, 1);
}

static void
test_in_use(void **state)
{
	Listener	first[2];
	char		url[64];
	char		text[512];

	assert_int_equal(listen_open("http://127.0.0.1:0", first, 2, error,
								 sizeof(error)), 1);
	snprintf(url, sizeof(url), "http://127.0.0.1:%d", port_of(&first[0]));
	snprintf(text, sizeof(text), "could not listen on %s: Address already in use", url);
	assert_fails(url, text);
	assert_non_null(strstr(error, "stop the other server or choose another port"));

	/* what was opened before it is closed again */
	snprintf(text, sizeof(text), "unix://%s/s,%s", dir, url);
	assert_fails(text, "Address already in use");
	snprintf(text, sizeof(text), "%s/s", dir);
	assert_int_equal(access(text, F_OK), -1);

	/* and a port that was just given up is free */
	assert_accepts(&first[0], "127.0.0.1:");
	listen_close(first, 1);
	assert_int_equal(open_all(url), 1);
	snprintf(text, sizeof(text), "%s,%s", url, url);
	listen_close(listeners, 1);
	assert_fails(text, "is in the list twice");
}

static void
test_bad_urls(void **state)
{
	assert_fails("", "empty");
	assert_fails("http://127.0.0.1:0,", "empty part");
	assert_fails("127.0.0.1:2379", "must begin with");
	assert_fails("ftp://127.0.0.1:2379", "must begin with");
	assert_fails("http://127.0.0.1", "has no port");
	assert_fails("http://:2379", "has no host");
	assert_fails("http://127.0.0.1:", "the port must be");
	assert_fails("http://127.0.0.1:x", "the port must be");
	assert_fails("http://127.0.0.1:70000", "the port must be");
	assert_fails("http://127.0.0.1:-1", "the port must be");
	assert_fails("http://127.0.0.1:80/v3", "must not have a path");
	assert_fails("http://::1:2379", "brackets");
	assert_fails("http://[::1]", "SCHEME://[ADDRESS]:PORT");
	assert_fails("http://[::1:2379", "SCHEME://[ADDRESS]:PORT");
	assert_fails("http://192.0.2.1:0", "no interface of this machine");
	assert_fails("http://no.such.host.invalid:0", "could not listen on http://no.such.host.invalid:0");
	assert_fails("unix://", "has no path");
	assert_fails("unix:///tmp/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345", "longer than 107 bytes");
	assert_fails("unix:///no/such/directory/s", "No such file or directory");
	/* a slash alone is no path */
	assert_int_equal(open_all("http://127.0.0.1:0/"), 1);
	listen_close(listeners, 1);
}

static void
test_too_many(void **state)
{
	Listener	one[1];

	assert_int_equal(listen_open("http://127.0.0.1:0,http://127.0.0.1:0", one, 1,
								 error, sizeof(error)), -1);
	assert_non_null(strstr(error, "more than 1 address"));
}

static void
test_unix(void **state)
{
	char		url[128];
	char		path[100];
	struct stat st;
	int			status;
	pid_t		child;

	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(url, sizeof(url), "unixs://%s", path);
	umask(0);
	assert_int_equal(open_all(url), 1);
	assert_true(listeners[0].is_tls);
	assert_string_equal(listeners[0].address, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_accepts(&listeners[0], "unix");

	/* a child that closes its copies leaves the file to its owner */
	child = fork();
	if (child == 0)
	{
		listen_close(listeners, 1);
		_exit(0);
	}
	waitpid(child, &status, 0);
	assert_int_equal(access(path, F_OK), 0);
	listen_close(listeners, 1);
	assert_int_equal(access(path, F_OK), -1);
}

static void
test_unix_stale(void **state)
{
	char		url[128];
	char		path[100];
	Listener	first[1];
	int			fd;

	snprintf(path, sizeof(path), "%s/sock", dir);
	snprintf(url, sizeof(url), "unix://%s", path);
	assert_int_equal(listen_open(url, first, 1, error, sizeof(error)), 1);
	/* somebody listens */
	assert_fails(url, "Address already in use");
	assert_non_null(strstr(error, "stop the other server or choose another path"));
	assert_accepts(&first[0], "unix");
	/* he was killed: the file is still there, nobody accepts */
	close(first[0].fd);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(open_all(url), 1);
	assert_accepts(&listeners[0], "unix");
	listen_close(listeners, 1);

	/* never remove what is no socket */
	fd = open(path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	assert_fails(url, "not a socket");
	assert_int_equal(access(path, F_OK), 0);
}

static void
test_plain_bytes(void **state)
{
	int			fds[2];
	Conn	   *conn;
	char		data[16];
	char	   *much = calloc(1, 4000000);
	size_t		n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn = conn_create(fds[0], NULL);
	assert_int_equal(conn_fd(conn), fds[0]);
	assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_WANT_READ);
	assert_int_equal(write(fds[1], "hello", 5), 5);
	assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_OK);
	assert_int_equal(n, 5);
	assert_memory_equal(data, "hello", 5);
	assert_false(conn_has_pending(conn));
	assert_int_equal(conn_write(conn, "yes", 3, &n), CONN_OK);
	assert_int_equal(read(fds[1], data, sizeof(data)), 3);
	/* a part only, then nothing, but no blocking */
	assert_int_equal(conn_write(conn, much, 4000000, &n), CONN_OK);
	assert_in_range(n, 1, 3999999);
	assert_int_equal(conn_write(conn, much, 4000000, &n), CONN_WANT_WRITE);
	close(fds[1]);
	/* no SIGPIPE */
	assert_int_equal(conn_write(conn, much, 10, &n), CONN_FAILED);
	assert_string_equal(conn_error(conn), "could not send: Broken pipe");
	conn_destroy(conn);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn = conn_create(fds[0], NULL);
	close(fds[1]);
	assert_int_equal(conn_read(conn, data, sizeof(data), &n), CONN_CLOSED);
	conn_destroy(conn);
	free(much);
}

int
main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_addresses),
		TEST(test_localhost),
		TEST(test_any_address),
		TEST(test_in_use),
		TEST(test_bad_urls),
		TEST(test_too_many),
		TEST(test_unix),
		TEST(test_unix_stale),
		TEST(test_plain_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
