# Claviger::Server: a server of its own for a TAP test.
#
# Each server has a temporary data directory and a free loopback port, is
# bounded in time, and is stopped by its process id when the test ends, however
# it ends.  Nothing here talks to a server that the test did not start.
package Claviger::Server;

use strict;
use warnings;
use Cwd qw(abs_path);
use Fcntl qw(:flock);
use File::Basename qw(dirname);
use File::Spec::Functions qw(tmpdir);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(sleep time);

our $TOP = abs_path(dirname(__FILE__) . '/../../..');
our $BUILDDIR = $ENV{BUILDDIR} || "$TOP/build";
our ($SANITIZER) = $BUILDDIR =~ m{build-(asan|tsan)/?$};
# how much more time everything is given; what is demanded stays the same
our $SLOW = $ENV{CLAVIGER_SLOW} || ($SANITIZER ? { asan => 4, tsan => 8 }->{$SANITIZER} : 1);
my $suppressions = "$TOP/regress/sanitizers";
if ($SANITIZER && $SANITIZER eq 'asan')
{
	$ENV{ASAN_OPTIONS} //= 'detect_stack_use_after_return=1:quarantine_size_mb=64';
	$ENV{UBSAN_OPTIONS} //= "print_stacktrace=1:suppressions=$suppressions/ubsan.supp";
	$ENV{LSAN_OPTIONS} //= "suppressions=$suppressions/lsan.supp";
}
elsif ($SANITIZER)
{
	$ENV{TSAN_OPTIONS} //= "second_deadlock_stack=1:suppressions=$suppressions/tsan.supp";
}
# a hash that takes more than 5 s on a starved machine makes a login time out
our @CHEAP_LOGINS = ('--argon2-memory=64', '--argon2-iterations=1');
our $BINDIR = $ENV{CLAVIGER_BINDIR} || "$BUILDDIR/bin";
my @running;

# Options: args => [...] for the server, env => {...}, tls => 1 (https URLs),
# dir => an existing data directory's parent.
sub new
{
	my ($class, %options) = @_;
	my $dir = $options{dir} || tempdir('claviger-XXXXXX', TMPDIR => 1, CLEANUP => 1);
	my $self = bless {
		dir    => $dir,
		data   => "$dir/data",
		log    => "$dir/server.log",
		scheme => $options{tls} ? 'https' : 'http',
		args   => $options{args} || [],
		env    => $options{env} || {},
		port   => free_port(),
	}, $class;
	return $self;
}

# A loopback port for a server, this process's own until it ends; why, and how:
# free_port in lib/claviger.py, which uses the same lock files.
my @ports;

sub free_port
{
	open(my $file, '<', '/proc/sys/net/ipv4/ip_local_port_range') or die "ports: $!";
	my ($first, $beyond) = (10000, (split ' ', <$file>)[0]);
	my $directory = tmpdir() . '/claviger-ports';
	mkdir $directory;
	for (1 .. 1000)
	{
		my $port = $first + int(rand($beyond - $first));
		open(my $lock, '>', "$directory/$port") or next;
		flock($lock, LOCK_EX | LOCK_NB) or next;
		IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1) or next;
		push @ports, $lock;
		return $port;
	}
	die "no free port from $first to " . ($beyond - 1);
}

sub url      { my $self = shift; return "$self->{scheme}://127.0.0.1:$self->{port}" }
sub endpoint { my $self = shift; return "127.0.0.1:$self->{port}" }
sub data_dir { $_[0]->{data} }
sub pid      { $_[0]->{pid} }
sub bin      { my ($self, $name) = @_; return "$BINDIR/$name" }

# Start without waiting; the child becomes leader of a process group.
sub launch
{
	my ($self, @more) = @_;
	my $pid = fork();
	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		setpgrp(0, 0);
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', $self->{log}) or die;
		open(STDERR, '>&', \*STDOUT);
		$ENV{$_} = $self->{env}{$_} for keys %{ $self->{env} };
		exec("$BINDIR/claviger", '--data-dir', $self->{data},
			'--listen-client-urls', $self->url,
			'--advertise-client-urls', $self->url,
			@{ $self->{args} }, @more)
		  or POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	push @running, $self;
	return $self;
}

# Start and wait until it serves; dies with the log if it does not.
sub start
{
	my ($self, @more) = @_;
	$self->launch(@more);
	$self->wait_ready or die "server did not start:\n" . $self->log_text;
	return $self;
}

sub wait_ready
{
	my ($self, $seconds) = @_;
	my $end = time + ($seconds || 60) * $SLOW;
	while (time < $end)
	{
		return 1 if ($self->state || '') eq 'ready';
		return 0 if waitpid($self->{pid}, WNOHANG) == $self->{pid} && do { $self->{status} = $?; delete $self->{pid}; 1 };
		sleep 0.02;
	}
	return 0;
}

# Third line of the pid file, when it is of this process.
sub state
{
	my $self = shift;
	open(my $file, '<', "$self->{data}/claviger.pid") or return;
	chomp(my @lines = <$file>);
	return if @lines < 3 || $lines[0] != ($self->{pid} || 0);
	return $lines[2];
}

# Send a signal and wait for the end; returns the exit status (-1: it hung and
# was killed).
sub stop
{
	my ($self, $signal, $seconds) = @_;
	my $pid = $self->{pid} or return $self->{status};
	kill($signal || 'TERM', $pid);
	return $self->wait_end($seconds || 60);
}

sub wait_end
{
	my ($self, $seconds) = @_;
	my $pid = $self->{pid} or return $self->{status};
	my $end = time + $seconds * $SLOW;
	while (time < $end)
	{
		if (waitpid($pid, WNOHANG) == $pid)
		{
			$self->{status} = $?;
			delete $self->{pid};
			return $self->{status};
		}
		sleep 0.01;
	}
	$self->kill9;
	return -1;
}

# Everything of this server at once, as a power cut for processes.
sub kill9
{
	my $self = shift;
	my $pid = $self->{pid} or return;
	kill('KILL', -$pid);
	waitpid($pid, 0);
	delete $self->{pid};
	# children of the group die with it; orphans that are dead do not count (init
	# may take its time with them): what matters is that the lock is free
	my $end = time + 60 * $SLOW;
	sleep 0.01 while kill(0, -$pid) && !$self->is_unlocked && time < $end;
	return;
}

sub is_unlocked
{
	my $self = shift;
	open(my $lock, '<', "$self->{data}/claviger.lock") or return 1;
	return flock($lock, LOCK_EX | LOCK_NB);
}

# Process ids of its children: (raft worker, backends...).
sub children
{
	my $self = shift;
	open(my $file, '<', "/proc/$self->{pid}/task/$self->{pid}/children") or return;
	return split ' ', (<$file> // '');
}

# Wait until its log matches, or whatever else holds.
sub wait_log
{
	my ($self, $re) = @_;
	return wait_until(sub { $self->log_text =~ $re });
}

# Only a failure waits so long.
sub wait_until
{
	my ($condition, $seconds) = @_;
	my $end = time + ($seconds || 30) * $SLOW;
	while (time < $end)
	{
		return 1 if $condition->();
		sleep 0.02;
	}
	return $condition->() ? 1 : 0;
}

sub log_text
{
	my $self = shift;
	open(my $file, '<', $self->{log}) or return '';
	local $/;
	return <$file> // '';
}

# What a sanitizer wrote into its log, or nothing.
sub sanitizer_report
{
	my $text = $_[0]->log_text;
	return '' if $text !~ /ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|Sanitizer CHECK failed|Sanitizer:DEADLYSIGNAL/;
	return substr($text, $-[0] > 200 ? $-[0] - 200 : 0, 8000) =~ s/^/# /mgr;
}

# Run a command, bounded; returns (exit status, stdout and stderr together).
sub run
{
	my ($self, @command) = @_;
	my $out = '';
	my $pid = open(my $pipe, '-|') // die "fork: $!";
	if ($pid == 0)
	{
		open(STDERR, '>&', \*STDOUT);
		open(STDIN, '<', '/dev/null');
		exec('timeout', 300 * $SLOW, @command) or POSIX::_exit(127);
	}
	{ local $/; $out = <$pipe> // ''; }
	close($pipe);
	return ($? >> 8, $out);
}

# etcdctl gives up after 2 s without a connection, and after 5 s without an
# answer: too soon where the machine is busy.  Options given later count.
sub patience { return map { "--$_-timeout=" . 60 * $SLOW . 's' } 'dial', 'command' }

# etcdctl against this server.  Its own warnings (JSON lines) are left out of
# the answer, because they carry times and random names.
sub etcdctl
{
	my ($self, @args) = @_;
	local $ENV{ETCDCTL_API} = 3;
	my ($status, $out) = $self->run('etcdctl', '--endpoints=' . $self->url, patience(), @args);
	$out =~ s/^\{"level":.*\n//mg;
	return wantarray ? ($status, $out) : $out;
}

END
{
	my $status = $?;
	for my $server (@running)
	{
		$server->kill9 if $server->{pid};
		if ((my $report = $server->sanitizer_report) ne '')
		{
			print "# a sanitizer has reported:\n$report\n";
			$status = 1;
		}
	}
	$? = $status;
}

1;
