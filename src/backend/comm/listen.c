/*
 * listen.c
 *	  Listening sockets from a list of URLs.
 *
 * Everything that can be wrong with an address is found here, at start, and
 * told with the URL as the administrator wrote it.  A list is opened as a
 * whole: when one URL fails, those before it are closed again.
 *
 * The file of a Unix socket that a killed server left behind is removed when
 * nobody accepts on it.  Two servers that start at the same instant could both
 * find the same stale file; the lock on the data directory, taken before, is
 * what keeps them apart.
 */
#include "server.h"

/* system */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* this layer and below */
#include "comm/listen.h"

#define BACKLOG_DEFAULT 4096
/* port 0 on two addresses of localhost: tries to find one free on both */
#define SAME_PORT_TRIES 20

/* one URL, taken apart */
typedef struct ListenUrl
{
	char		text[256];
	bool		is_tls;
	bool		is_unix;
	char		host[256];		/* without brackets; empty for unix */
	char		port[8];
	const char *path;			/* unix: points into text */
} ListenUrl;

/* what a call of listen_open() works on */
typedef struct ListenJob
{
	Listener   *listeners;
	int			max;
	int			n;
	char	   *error;
	size_t		error_size;
} ListenJob;

static bool url_parse(ListenJob *job, const char *text, size_t len,
					  ListenUrl *url);
static bool url_parse_host(ListenJob *job, ListenUrl *url, const char *rest);
static bool open_tcp(ListenJob *job, const ListenUrl *url);
static bool open_addresses(ListenJob *job, const ListenUrl *url,
						   struct addrinfo *first);
static bool open_address(ListenJob *job, const ListenUrl *url,
						 const struct addrinfo *ai, int port);
static bool open_localhost_any_port(ListenJob *job, const ListenUrl *url,
									struct addrinfo *first);
static bool open_unix(ListenJob *job, const ListenUrl *url);
static bool unix_file_is_stale(ListenJob *job, const ListenUrl *url,
							   const struct sockaddr_un *addr);
static bool start_listening(ListenJob *job, const ListenUrl *url, int fd,
							const char *address);
static bool is_listed(const ListenJob *job, const struct sockaddr *addr,
					  socklen_t len);
static void set_port(struct sockaddr_storage *addr, int port);
static int	get_port(const struct sockaddr_storage *addr);
static void format_address(char *out, size_t size, const struct sockaddr *addr,
						   socklen_t len);
static bool cannot_listen(ListenJob *job, const ListenUrl *url,
						  const char *address, int error);
static bool complain(ListenJob *job, const char *fmt,...)
			__attribute__((format(printf, 2, 3)));

int
listen_open(const char *urls, Listener *listeners, int max, char *error,
			size_t error_size)
{
	ListenJob	job = {listeners, max, 0, error, error_size};
	const char *pos = urls;

	for (;;)
	{
		const char *comma = strchrnul(pos, ',');
		ListenUrl	url;
		bool		is_open;

		if (!url_parse(&job, pos, (size_t) (comma - pos), &url))
			goto fail;
		is_open = url.is_unix ? open_unix(&job, &url) : open_tcp(&job, &url);
		if (!is_open)
			goto fail;
		if (*comma == '\0')
			return job.n;
		pos = comma + 1;
	}

fail:
	listen_close(listeners, job.n);
	return -1;
}

void
listen_close(Listener *listeners, int n)
{
	for (int i = 0; i < n; i++)
	{
		Listener   *listener = &listeners[i];

		if (listener->fd < 0)
			continue;
		if (listener->unix_path[0] != '\0' && listener->owner == getpid())
			unlink(listener->unix_path);
		close(listener->fd);
		listener->fd = -1;
	}
}

static bool
url_parse(ListenJob *job, const char *text, size_t len, ListenUrl *url)
{
	static const struct
	{
		const char *prefix;
		bool		is_tls;
		bool		is_unix;
	}			schemes[] = {
		{"http://", false, false},
		{"https://", true, false},
		{"unix://", false, true},
		{"unixs://", true, true},
	};

	while (len > 0 && *text == ' ')
	{
		text++;
		len--;
	}
	while (len > 0 && text[len - 1] == ' ')
		len--;
	if (len == 0)
		return complain(job, "the list of listen URLs is empty or has an empty part");
	if (len >= sizeof(url->text))
		return complain(job, "listen URL \"%.60s...\" is too long", text);
	memset(url, 0, sizeof(*url));
	memcpy(url->text, text, len);
	for (size_t i = 0; i < lengthof(schemes); i++)
	{
		size_t		n = strlen(schemes[i].prefix);

		if (strncmp(url->text, schemes[i].prefix, n) != 0)
			continue;
		url->is_tls = schemes[i].is_tls;
		url->is_unix = schemes[i].is_unix;
		if (!url->is_unix)
			return url_parse_host(job, url, url->text + n);
		url->path = url->text + n;
		if (url->path[0] == '\0')
			return complain(job, "listen URL \"%s\" has no path", url->text);
		return true;
	}
	return complain(job, "listen URL \"%s\" must begin with http://, https://, unix:// or unixs://",
					url->text);
}

static bool
url_parse_host(ListenJob *job, ListenUrl *url, const char *rest)
{
	const char *host = rest;
	const char *host_end;
	const char *port;
	char	   *end;
	long		number;
	size_t		len = strcspn(rest, "/?#");

	if (rest[len] != '\0' && strcmp(rest + len, "/") != 0)
		return complain(job, "listen URL \"%s\" must not have a path", url->text);
	if (host[0] == '[')
	{
		host++;
		host_end = memchr(host, ']', len - 1);
		port = host_end == NULL ? NULL : host_end + 1;
		if (port == NULL || *port != ':')
			return complain(job, "listen URL \"%s\" must be SCHEME://[ADDRESS]:PORT",
							url->text);
	}
	else
	{
		host_end = port = memchr(host, ':', len);
		if (port == NULL)
			return complain(job, "listen URL \"%s\" has no port", url->text);
		if (memchr(port + 1, ':', len - (size_t) (port + 1 - rest)) != NULL)
			return complain(job, "listen URL \"%s\": an IPv6 address must be in brackets",
							url->text);
	}
	if (host == host_end)
		return complain(job, "listen URL \"%s\" has no host; say 0.0.0.0 or [::] for all addresses",
						url->text);
	memcpy(url->host, host, (size_t) (host_end - host));

	number = strtol(port + 1, &end, 10);
	if (port[1] < '0' || port[1] > '9' || end != rest + len || number > 65535)
		return complain(job, "listen URL \"%s\": the port must be a number from 0 to 65535",
						url->text);
	snprintf(url->port, sizeof(url->port), "%u", (unsigned) number & 0xffff);
	return true;
}

static bool
open_tcp(ListenJob *job, const ListenUrl *url)
{
	struct addrinfo hints = {
		.ai_flags = AI_PASSIVE | AI_NUMERICSERV,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *found = NULL;
	bool		is_open;
	int			rc;

	/* not through the resolver: /etc/hosts may say anything */
	if (strcmp(url->host, "localhost") == 0)
	{
		struct addrinfo *v6 = NULL;

		hints.ai_flags |= AI_NUMERICHOST;
		rc = getaddrinfo("127.0.0.1", url->port, &hints, &found);
		if (rc == 0 && getaddrinfo("::1", url->port, &hints, &v6) == 0)
			found->ai_next = v6;
	}
	else
		rc = getaddrinfo(url->host, url->port, &hints, &found);
	if (rc != 0)
		return complain(job, "could not listen on %s: %s", url->text,
						rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
	is_open = open_addresses(job, url, found);
	freeaddrinfo(found);
	return is_open;
}

static bool
open_addresses(ListenJob *job, const ListenUrl *url, struct addrinfo *first)
{
	if (first->ai_next != NULL && strcmp(url->port, "0") == 0)
		return open_localhost_any_port(job, url, first);
	for (struct addrinfo *ai = first; ai != NULL; ai = ai->ai_next)
		if (!open_address(job, url, ai, -1))
			return false;
	return true;
}

/*
 * Port 0 for a name with several addresses: the kernel chooses for the first,
 * the others take the same, so that there is one port to tell a client.
 */
static bool
open_localhost_any_port(ListenJob *job, const ListenUrl *url,
						struct addrinfo *first)
{
	int			before = job->n;

	for (int try = 0; try < SAME_PORT_TRIES; try++)
	{
		struct sockaddr_storage bound;
		socklen_t	len = sizeof(bound);
		struct addrinfo *ai;

		if (!open_address(job, url, first, 0))
			return false;
		if (getsockname(job->listeners[before].fd, (struct sockaddr *) &bound,
						&len) < 0)
			return cannot_listen(job, url, url->host, errno);
		for (ai = first->ai_next; ai != NULL; ai = ai->ai_next)
			if (!open_address(job, url, ai, get_port(&bound)))
				break;
		if (ai == NULL)
			return true;
		listen_close(job->listeners + before, job->n - before);
		job->n = before;
	}
	return false;
}

/* port -1: as in ai */
static bool
open_address(ListenJob *job, const ListenUrl *url, const struct addrinfo *ai,
			 int port)
{
	struct sockaddr_storage addr;
	char		text[256];
	const int	on = 1;
	int			v6only;
	int			fd;

	memcpy(&addr, ai->ai_addr, ai->ai_addrlen);
	if (port >= 0)
		set_port(&addr, port);
	format_address(text, sizeof(text), (struct sockaddr *) &addr,
				   ai->ai_addrlen);
	if (is_listed(job, (struct sockaddr *) &addr, ai->ai_addrlen))
		return complain(job, "could not listen on %s: the address %s is in the list twice",
						url->text, text);

	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
	{
		/* a kernel without IPv6: localhost is IPv4 alone */
		if (ai->ai_family == AF_INET6 && strcmp(url->host, "localhost") == 0)
			return true;
		return cannot_listen(job, url, text, errno);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (ai->ai_family == AF_INET6)
	{
		v6only = !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *) &addr)->sin6_addr);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
	}
	if (bind(fd, (struct sockaddr *) &addr, ai->ai_addrlen) < 0)
	{
		int			error = errno;

		close(fd);
		if (error == EADDRNOTAVAIL && ai->ai_family == AF_INET6 &&
			strcmp(url->host, "localhost") == 0)
			return true;
		return cannot_listen(job, url, text, error);
	}
	return start_listening(job, url, fd, text);
}

static bool
open_unix(ListenJob *job, const ListenUrl *url)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	mode_t		old_umask;
	int			fd;
	int			rc;
	int			error;

	if (strlen(url->path) >= sizeof(addr.sun_path))
		return complain(job, "could not listen on %s: the path is longer than %zu bytes",
						url->text, sizeof(addr.sun_path) - 1);
	strcpy(addr.sun_path, url->path);
	for (int i = 0; i < job->n; i++)
		if (strcmp(job->listeners[i].unix_path, addr.sun_path) == 0)
			return complain(job, "could not listen on %s: the path is in the list twice",
							url->text);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return cannot_listen(job, url, url->path, errno);

	/* by umask, so that there is no instant at which others may connect */
	old_umask = umask(0177);
	rc = bind(fd, (struct sockaddr *) &addr, sizeof(addr));
	error = errno;
	if (rc < 0 && error == EADDRINUSE)
	{
		if (!unix_file_is_stale(job, url, &addr))
		{
			umask(old_umask);
			close(fd);
			return false;
		}
		unlink(addr.sun_path);
		rc = bind(fd, (struct sockaddr *) &addr, sizeof(addr));
		error = errno;
	}
	umask(old_umask);
	if (rc < 0)
	{
		close(fd);
		return cannot_listen(job, url, url->path, error);
	}
	if (!start_listening(job, url, fd, url->path))
	{
		unlink(addr.sun_path);
		return false;
	}
	strcpy(job->listeners[job->n - 1].unix_path, addr.sun_path);
	return true;
}

/* false with the error set when somebody accepts there, or it is no socket */
static bool
unix_file_is_stale(ListenJob *job, const ListenUrl *url,
				   const struct sockaddr_un *addr)
{
	struct stat st;
	int			fd;
	int			rc;
	int			error;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT || cannot_listen(job, url, url->path, errno);
	if (!S_ISSOCK(st.st_mode))
		return complain(job, "could not listen on %s: there is a file of that name which is not a socket; remove it or choose another path",
						url->text);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return cannot_listen(job, url, url->path, errno);
	rc = connect(fd, (const struct sockaddr *) addr, sizeof(*addr));
	error = errno;
	close(fd);
	/* EAGAIN: somebody listens and his queue is full */
	if (rc < 0 && (error == ECONNREFUSED || error == ENOENT))
		return true;
	return cannot_listen(job, url, url->path, EADDRINUSE);
}

/* takes over fd, also when it fails */
static bool
start_listening(ListenJob *job, const ListenUrl *url, int fd,
				const char *address)
{
	struct sockaddr_storage bound;
	socklen_t	len = sizeof(bound);
	Listener   *listener;
	FILE	   *file = fopen("/proc/sys/net/core/somaxconn", "re");
	int			backlog = BACKLOG_DEFAULT;

	if (file != NULL)
	{
		if (fscanf(file, "%d", &backlog) != 1 || backlog <= 0)
			backlog = BACKLOG_DEFAULT;
		fclose(file);
	}
	if (listen(fd, backlog) < 0 ||
		getsockname(fd, (struct sockaddr *) &bound, &len) < 0)
	{
		int			error = errno;

		close(fd);
		return cannot_listen(job, url, address, error);
	}
	if (job->n >= job->max)
	{
		close(fd);
		return complain(job, "could not listen on %s: there are more than %d addresses in the list",
						url->text, job->max);
	}
	listener = &job->listeners[job->n++];
	memset(listener, 0, sizeof(*listener));
	listener->fd = fd;
	listener->is_tls = url->is_tls;
	listener->owner = getpid();
	snprintf(listener->url, sizeof(listener->url), "%s", url->text);
	if (url->is_unix)
		snprintf(listener->address, sizeof(listener->address), "%s", address);
	else
		format_address(listener->address, sizeof(listener->address),
					   (struct sockaddr *) &bound, len);
	return true;
}

/* does an earlier URL of the list have this address and port */
static bool
is_listed(const ListenJob *job, const struct sockaddr *addr, socklen_t len)
{
	char		text[256];

	format_address(text, sizeof(text), addr, len);
	for (int i = 0; i < job->n; i++)
		if (strcmp(job->listeners[i].address, text) == 0)
			return true;
	return false;
}

static void
set_port(struct sockaddr_storage *addr, int port)
{
	if (addr->ss_family == AF_INET6)
		((struct sockaddr_in6 *) addr)->sin6_port = htons((uint16_t) port);
	else
		((struct sockaddr_in *) addr)->sin_port = htons((uint16_t) port);
}

static int
get_port(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *) addr)->sin6_port);
	return ntohs(((const struct sockaddr_in *) addr)->sin_port);
}

static void
format_address(char *out, size_t size, const struct sockaddr *addr,
			   socklen_t len)
{
	char		host[INET6_ADDRSTRLEN + 32];
	char		port[8];

	if (getnameinfo(addr, len, host, sizeof(host), port, sizeof(port),
					NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(out, size, "unknown");
	else
		snprintf(out, size, addr->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
				 host, port);
}

static bool
cannot_listen(ListenJob *job, const ListenUrl *url, const char *address,
			  int error)
{
	const char *hint = "";

	switch (error)
	{
		case EADDRINUSE:
			hint = url->is_unix ?
				"; stop the other server or choose another path" :
				"; stop the other server or choose another port";
			break;
		case EACCES:
			hint = url->is_unix ? "; check the rights on the directory" :
				"; ports below 1024 need privileges";
			break;
		case EADDRNOTAVAIL:
			hint = "; no interface of this machine has this address";
			break;
		default:
			break;
	}
	return complain(job, "could not listen on %s: %s (%s)%s", url->text,
					strerror(error), address, hint);
}

/* always false, so that a caller can return it */
static bool
complain(ListenJob *job, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(job->error, job->error_size, fmt, args);
	va_end(args);
	return false;
}
