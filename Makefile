# The two commands of a newcomer are `make run` and `make test`; the rest is for developers.

SHELL = /bin/bash
.SHELLFLAGS = -euo pipefail -c
.ONESHELL:
.PHONY: run test deb deb-test image boot appliance-test appliance-bars static fuzz soak fmt lint doc bench bars peers

# Builds the server and serves; without CONFIG that is ./stratamx.toml, else the embedded default on loopback.
run:
	@.ci/packages cc=gcc cc=libc6-dev swaks=swaks
	cargo build --release --workspace --exclude stratamx-appliance --bins
	exec target/release/stratamx serve $(if $(CONFIG),--config $(CONFIG))

# Builds every program and runs every test, with real mail software as peers.
test:
	@.ci/packages cc=gcc cc=libc6-dev swaks=swaks postfix=postfix python3=python3 pip3=python3-pip \
	    openssl=openssl Net::SSLeay=libnet-ssleay-perl curl=curl node=nodejs npm=npm promtool=prometheus
	.ci/peers target/peers
	if cargo nextest --version >/dev/null 2>&1; then
	    cargo nextest run --workspace --config-file .ci/nextest.toml
	    cargo test --workspace --doc
	else
	    echo "make test: cargo-nextest is not installed; cargo test does the same, a little slower" >&2
	    cargo test --workspace
	fi

# The Debian package, and one with its debugging symbols: target/debian. appliance/debian/README.Debian is what its users read.
deb:
	@.ci/packages cc=gcc cc=libc6-dev objcopy=binutils dpkg-shlibdeps=dpkg-dev python3=python3
	cargo build --release --workspace --exclude stratamx-appliance --bins
	appliance/debian/build target --dbgsym

# Installs, starts, upgrades, removes and purges it in a machine of its own. Needs root or sudo, overlayfs and cgroup2.
deb-test:
	@.ci/packages cc=gcc cc=libc6-dev strip=binutils dpkg-shlibdeps=dpkg-dev python3=python3 groff=groff-base \
	    systemd-analyze=systemd ip=iproute2 pgrep=procps
	$(if $(BUILT),,cargo build --workspace --bins)
	appliance/debian/test/run target/debug

# The appliance: target/appliance/image, for clouds and hypervisors, or VARIANT=generic for bare metal. appliance/README.md tells how it is used.
# ARCH=arm64 of these targets is for the other processor (target/appliance/image-arm64): a compiler of Debian's that crosses is unpacked into
# target/cross, and builds in target/arm64; two compilers in one directory would throw away each other's work.
VARIANT = cloud
ARCH = amd64
IMAGE = target/appliance/image$(SUFFIX_$(ARCH))
SUFFIX_arm64 = -arm64
# The static server. PROFILE=dev compiles in a third of the time, for tests: the same code, less optimised. --target, so that the flag does not
# reach build scripts and procedural macros, which are loaded.
PROFILE = release
TRIPLE_amd64 = x86_64-unknown-linux-gnu
TRIPLE_arm64 = aarch64-unknown-linux-gnu
TRIPLE = $(or $(TRIPLE_$(ARCH)),$(error ARCH is amd64 or arm64))
TARGET_amd64 = target
TARGET_arm64 = target/arm64
CROSS_arm64 = .ci/cross target/cross
STATIC = $(TARGET_$(ARCH))/$(TRIPLE)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/stratamx
IMAGE_PACKAGES = cc=gcc cc=libc6-dev mcopy=mtools mkfs.vfat=dosfstools xz=xz-utils
static:
	@.ci/packages cc=gcc cc=libc6-dev
	RUSTFLAGS="-C target-feature=+crt-static -C strip=symbols" CARGO_TARGET_DIR=$(TARGET_$(ARCH)) $(CROSS_$(ARCH)) \
	    cargo build --profile $(PROFILE) --target $(TRIPLE) --package stratamx --bin stratamx

# The key that images are signed with, and take updates by; one for development is made where there is none.
KEY = target/appliance/development.key
image: static
	@.ci/packages $(IMAGE_PACKAGES) qemu-img=qemu-utils
	cargo build --package stratamx-appliance
	mkdir -p target/appliance
	[[ -e $(KEY) ]] || target/debug/stratamx-appliance key $(KEY)
	target/debug/stratamx-appliance build --variant $(VARIANT) --architecture $(ARCH) --server $(STATIC) --out $(IMAGE) --update-key $(KEY).pub \
	    $(if $(IMAGE_VERSION),--image-version $(IMAGE_VERSION))
	target/debug/stratamx-appliance sign --key $(KEY) $(IMAGE)/SHA256SUMS $(IMAGE)/stratamx_*_$(VARIANT)$(subst -,_,$(SUFFIX_$(ARCH))).efi

EMULATOR_amd64 = qemu-system-x86_64=qemu-system-x86
EMULATOR_arm64 = qemu-system-aarch64=qemu-system-arm
FIRMWARE_amd64 = /usr/share/OVMF/OVMF_CODE_4M.fd=ovmf
FIRMWARE_arm64 = /usr/share/AAVMF/AAVMF_CODE.fd=qemu-efi-aarch64
# Runs it in QEMU: mail at 127.0.0.1:2525, the admin API at 127.0.0.1:8025, the console here; Ctrl-A X ends it. CONFIG=FILE is its stratamx.toml.
boot:
	@.ci/packages --backports $(EMULATOR_$(ARCH)) qemu-img=qemu-utils
	.ci/packages $(FIRMWARE_$(ARCH))
	appliance/boot $(IMAGE) $(CONFIG)

# Builds it twice and compares, boots it, kills it, boots it again. Everything that it needs is installed, but nothing is removed for it.
# ARCH=arm64 runs the tests of that name; .ci/run has no minutes for them.
SERVER_amd64 = STRATAMX_STATIC_SERVER
SERVER_arm64 = STRATAMX_STATIC_SERVER_ARM64
appliance-test:
	@.ci/packages --backports $(EMULATOR_$(ARCH))
	.ci/packages $(IMAGE_PACKAGES) curl=curl minisign=minisign swtpm=swtpm $(FIRMWARE_$(ARCH))
	$(MAKE) --no-print-directory static PROFILE=dev
	STRATAMX_REQUIRE_VM=1 $(SERVER_$(ARCH))=$(CURDIR)/$(TARGET_$(ARCH))/$(TRIPLE)/debug/stratamx \
	    cargo test --package stratamx-appliance $(if $(filter arm64,$(ARCH)),--test boot arm64) -- --test-threads=2

# The bars of the image that make image has made: its size, and the time of a start as a ratio. Exit status 1 when one is missed; a few minutes.
appliance-bars:
	@.ci/packages --backports qemu-system-x86_64=qemu-system-x86 qemu-img=qemu-utils
	.ci/packages $(IMAGE_PACKAGES) $(FIRMWARE_amd64)
	appliance/bars $(IMAGE)

# One fuzz target for as long as wanted: make fuzz TARGET=session SECONDS=3600. Targets are the directories of tests/fuzz/corpus.
fuzz:
	@: $(or $(TARGET),$(error TARGET is one of $(notdir $(wildcard tests/fuzz/corpus/*))))
	STRATAMX_FUZZ_SECONDS=$(or $(SECONDS),60) cargo test -p stratamx --test integration fuzz::$(TARGET) -- --exact --nocapture

# The whole node on a simulated machine: make soak SEED=1001 SEEDS=5000 stops at the first seed that goes wrong and names it. One seed
# alone (SEEDS=1) also shows what the node logs.
soak:
	STRATAMX_SEED=$(or $(SEED),1001) STRATAMX_SEEDS=$(or $(SEEDS),2000) \
	    cargo test -p stratamx --test simulation seeds::soak -- --exact --nocapture

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items

# Figures; benches/README.md says how to read them. STRATAMX_BENCH_DIR says on which disk, else target/bench-data.
bench:
	cargo bench --bench log_append --bench log_recover --bench merge --bench index_lookup --bench hot_paths

# The bars, as ratios within one run: a table, and exit status 1 when one is missed.
bars:
	cargo bench --bench bars

# Us, a null server and other mail servers under the same load, in turns: target/peers-report/REPORT.md. Needs root. PEERS="--quick" is a few minutes;
# --help of benches/peers/run.py tells what else it may hold.
peers:
	@.ci/packages cc=gcc cc=libc6-dev postfix=postfix python3=python3 node=nodejs npm=npm strace=strace
	.ci/peers target/peers
	cargo build --release --workspace --bins
	benches/peers/run.py $(PEERS)
