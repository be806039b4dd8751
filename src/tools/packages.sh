# packages.sh: which Debian packages are needed for what, and how to get them.
#
# Sourced by quickstart and run-tests.  Needs only the base system.  What is
# installed already is left alone; apt is asked only if something is missing.

PACKAGES_BUILD="gcc make libc6-dev pkg-config libssl-dev libdb5.3-dev
	libargon2-dev libconfig-dev libnghttp2-dev libprotobuf-c-dev
	protobuf-c-compiler libisal-dev zlib1g-dev libjansson-dev
	libhttp-parser-dev libwslay-dev"
PACKAGES_SHOW="etcd-client"
PACKAGES_TEST="git perl etcd-client etcd-server openssl libcmocka-dev curl
	python3 python3-grpcio python3-protobuf protobuf-compiler clang-14
	libclang-rt-14-dev nghttp2-client pg-bsd-indent"
# what regress/clients tries; prepare_postgresql first, and install_npm
PACKAGES_CLIENTS="etcd-client etcd-server python3-etcd3 python3-etcd3gw curl
	postgresql-15 patroni python3-psycopg2 golang-go
	ca-certificates"

say() {
	printf '== %s\n' "$*"
}

die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

have_package() {
	dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'
}

# libraft 0.22.1 or newer: the 0.15 of bookworm is another library under the
# same name, and loses entries (doc/design/libraries).
have_libraft() {
	have_package libraft-dev &&
		dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libraft-dev)" ge 0.22.1
}

apt_update_done=
apt_update() {
	[ -n "$apt_update_done" ] && return
	say "Asking apt for its package lists"
	apt-get update -q || die "apt-get update failed; see above"
	apt_update_done=1
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" ||
		die "apt-get could not install: $*"
}

install_packages() {
	local missing= package
	for package in "$@"; do
		have_package "$package" || missing="$missing $package"
	done
	[ -z "$missing" ] && return
	[ "$(id -u)" -eq 0 ] || die "missing packages:$missing; run as root, or install them"
	apt_update
	say "Installing:$missing"
	# services of packages we need only as programs (etcd-server) must not start
	local policy=/usr/sbin/policy-rc.d made=
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && made=1
	fi
	# shellcheck disable=SC2086
	(apt_install $missing)
	local status=$?
	[ -n "$made" ] && rm -f $policy
	[ $status -eq 0 ] || exit $status
}

# PostgreSQL's programs without the cluster that its package makes and starts.
prepare_postgresql() {
	have_package postgresql-15 && return
	install_packages postgresql-common
	sed -i 's/^#*[[:space:]]*create_main_cluster.*/create_main_cluster = false/' \
		/etc/postgresql-common/createcluster.conf
}

# npm comes with nodejs or as a package of its own, which excludes the former
install_npm() {
	command -v npm >/dev/null && command -v node >/dev/null && return
	install_packages nodejs npm
}

# The apt source of this Debian release, taken from the machine's own files,
# as "URI<tab>keyring" (keyring may be empty).
own_debian_source() {
	local codename=$1 file
	for file in /etc/apt/sources.list.d/*.sources; do
		[ -e "$file" ] || continue
		awk -v want="$codename" '
			function flush() {
				if (uri != "" && suites ~ ("(^|[ \t])" want "([ \t]|$)") && !off) {
					print uri "\t" key; exit
				}
				uri = ""; suites = ""; key = ""; off = 0
			}
			/^[ \t]*$/ { flush(); next }
			/^#/ { next }
			tolower($1) == "uris:" { uri = $2 }
			tolower($1) == "suites:" { $1 = ""; suites = $0 }
			tolower($1) == "signed-by:" { key = $2 }
			tolower($1) == "enabled:" && tolower($2) == "no" { off = 1 }
			END { flush() }' "$file"
	done
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
		[ -e "$file" ] || continue
		awk -v want="$codename" '
			$1 == "deb" {
				i = 2; key = ""
				if ($2 ~ /^\[/) {
					options = ""
					for (i = 2; i <= NF; i++) {
						options = options " " $i
						if ($i ~ /\]$/) { i++; break }
					}
					if (match(options, /signed-by=[^] ]*/))
						key = substr(options, RSTART + 10, RLENGTH - 10)
				}
				if ($(i + 1) == want && $i !~ /security/) { print $i "\t" key; exit }
			}' "$file"
	done
}

install_libraft() {
	have_libraft && return
	[ "$(id -u)" -eq 0 ] || die "libraft-dev 0.22.1 is missing; run as root, or install it"
	apt_update
	local codename candidate source uri keyring suite file
	candidate=$(apt-cache policy libraft-dev | awk '/Candidate:/ {print $2}')
	if dpkg --compare-versions "${candidate:-0}" ge 0.22.1; then
		say "Installing libraft-dev $candidate"
		apt_install libraft-dev
		return
	fi
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	[ -n "$codename" ] || die "this is not a Debian release: no VERSION_CODENAME in /etc/os-release"
	suite=$codename-backports
	if ! apt-cache policy | grep -q "n=$suite"; then
		source=$(own_debian_source "$codename" | head -n 1)
		[ -n "$source" ] || die "no apt source for $codename found on this machine to derive $suite from"
		uri=${source%%	*}
		keyring=${source#*	}
		file=/etc/apt/sources.list.d/claviger-backports.sources
		say "Adding the suite $suite (for libraft 0.22.1) in $file"
		{
			echo "# written by Claviger's setup: only libraft comes from here"
			echo "Types: deb"
			echo "URIs: $uri"
			echo "Suites: $suite"
			echo "Components: main"
			[ -n "$keyring" ] && echo "Signed-By: $keyring"
		} >$file
		apt_update_done=
		apt_update
	fi
	say "Installing libraft-dev from $suite"
	apt_install libraft-dev/"$suite" libraft0/"$suite"
	have_libraft || die "libraft-dev is still older than 0.22.1"
}
