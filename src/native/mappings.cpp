// Files mapped into memory that may be cut short meanwhile: a missing page is read as zeros, where it would end the process.
//
// A load from a mapped page that its file no longer has, or that the disk fails to read, raises SIGBUS in the thread that
// loads. The handler here looks whether the address lies in a mapping; if so it marks the mapping, puts zero pages in the place
// of the rest of it, and the load goes on. Whoever reads asks afterwards whether the mapping was whole, and drops what was
// made of it if not. All other signals go on to the handler that was there before, which this one never forgets.
//
// What the handler touches is a fixed table of atomic numbers and two system calls: no lock, no allocation, no errno left
// behind. A child of a fork has mappings, table and handler of its own.
#include "fullbatch_native.h"

#if defined(__linux__)

#include <atomic>
#include <cerrno>
#include <csignal>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace {

constexpr int64_t MOST_BYTES = INT64_C(1) << 46;
constexpr int MOST_MAPPINGS = 1024, MOST_HANDLERS = 8;
constexpr int64_t ALIGNED = INT64_C(1) << 21;  // where file and address agree to it, large folios are mapped as large pages

struct Guarded {
    std::atomic<bool> taken;
    std::atomic<uintptr_t> begin, end;  // begin is 0 where there is nothing
    std::atomic<bool> broken;
};
Guarded table[MOST_MAPPINGS];
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// What was there before ours, the last one that counts; each is written before it counts, and stays.
struct sigaction handlers[MOST_HANDLERS];
std::atomic<int> handler_count{0};
std::atomic<bool> installing{false};

uintptr_t page_size() { return uintptr_t(sysconf(_SC_PAGESIZE)); }

bool replaced(uintptr_t address) {
    for (Guarded& one : table) {
        const uintptr_t begin = one.begin.load(), end = one.end.load();
        if (begin == 0 || address < begin || address >= end) continue;
        one.broken.store(true);  // before anybody can see a zero
        const uintptr_t from = address / page_size() * page_size();
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        return mmap(reinterpret_cast<void*>(from), end - from, PROT_READ, flags, -1, 0) != MAP_FAILED;
    }
    return false;
}

void pass_on(int number, siginfo_t* info, void* context) {
    const struct sigaction& before = handlers[handler_count.load() - 1];
    const bool of_a_load = info->si_code > 0 && info->si_code != BUS_MCEERR_AO;
    if (before.sa_flags & SA_SIGINFO) return before.sa_sigaction(number, info, context);
    if (before.sa_handler == SIG_IGN && !of_a_load) return;
    if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(number);
    struct sigaction plain{};
    plain.sa_handler = SIG_DFL;
    sigaction(SIGBUS, &plain, nullptr);
    if (!of_a_load) raise(number);  // A load is done again when this returns.
}

void on_bus_error(int number, siginfo_t* info, void* context) {
    const int kept = errno;
    const bool of_memory = info->si_code > 0 && info->si_code != BUS_ADRALN;
    const bool ours = of_memory && replaced(reinterpret_cast<uintptr_t>(info->si_addr));
    errno = kept;
    if (!ours) pass_on(number, info, context);
}

bool is_ours(const struct sigaction& handler) {
    return (handler.sa_flags & SA_SIGINFO) && handler.sa_sigaction == on_bus_error;
}

// Whether ours is the handler that the system calls: one that came after it, and may not call it, is not trusted.
bool is_guarded() {
    struct sigaction now;
    return sigaction(SIGBUS, nullptr, &now) == 0 && is_ours(now);
}

bool install() {
    struct sigaction now, own{};
    if (sigaction(SIGBUS, nullptr, &now) != 0) return false;
    if (is_ours(now)) return true;
    const int count = handler_count.load();
    // One that came after ours may call it: were that to call the other again, they would call each other without end.
    const bool plain = !(now.sa_flags & SA_SIGINFO) && (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN);
    if (count == MOST_HANDLERS || (count > 0 && !plain)) return false;
    handlers[count] = now;
    own.sa_sigaction = on_bus_error;
    own.sa_mask = now.sa_mask;
    own.sa_flags = SA_SIGINFO | SA_ONSTACK | (now.sa_flags & SA_NODEFER);
    handler_count.store(count + 1);
    return sigaction(SIGBUS, &own, nullptr) == 0;
}

bool guard() {
    if (installing.exchange(true)) return is_guarded();  // no lock, which a fork could leave locked
    const bool done = install();
    installing.store(false);
    return done;
}

// File systems of this machine. Another machine's files are read, as are those of kinds that nobody has tried.
bool is_local(int descriptor) {
    struct statfs found;
    if (fstatfs(descriptor, &found) != 0) return false;
    switch (uint32_t(found.f_type)) {
        case 0xEF53:      // ext2, ext3, ext4
        case 0x58465342:  // XFS
        case 0x9123683E:  // Btrfs
        case 0xF2F52010:  // F2FS
        case 0x01021994:  // tmpfs
        case 0x794C7630:  // overlayfs
            return true;
        default: return false;
    }
}

bool same_time(const timespec& a, const timespec& b) { return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec; }

}  // namespace

struct fb_mapping {
    Guarded* guarded;
    unsigned char *reserved, *base;  // where memory was reserved, and the first address in it that is ALIGNED
    int64_t capacity;                // bytes from the base on
    int64_t at, bytes;               // what of the file is mapped
    struct stat file;

    // Of a file that was cut off within a page, the rest of that page is zeros, without a signal.
    bool is_same(int descriptor) const {
        struct stat now;
        if (fstat(descriptor, &now) != 0) return false;
        return now.st_size == file.st_size && same_time(now.st_mtim, file.st_mtim) && now.st_ino == file.st_ino &&
               now.st_dev == file.st_dev;
    }
};

extern "C" {

fb_mapping* fb_mapping_new(int descriptor, int64_t bytes, int32_t* refused) {
    if (!refused || bytes < 1 || bytes > MOST_BYTES) return nullptr;
    *refused = FB_UNGUARDED;
    if (!guard()) return nullptr;
    *refused = FB_NOT_LOCAL;
    if (!is_local(descriptor)) return nullptr;
    *refused = FB_NO_MAPPING;
    fb_mapping* mapping = new (std::nothrow) fb_mapping{};
    if (!mapping) return nullptr;
    mapping->capacity = (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
    void* reserved = MAP_FAILED;
    if (fstat(descriptor, &mapping->file) == 0 && S_ISREG(mapping->file.st_mode)) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        reserved = mmap(nullptr, size_t(mapping->capacity + ALIGNED), PROT_NONE, flags, -1, 0);
    }
    for (Guarded& one : table) {
        if (reserved == MAP_FAILED || one.taken.exchange(true)) continue;
        mapping->reserved = static_cast<unsigned char*>(reserved);
        const uintptr_t base = (uintptr_t(reserved) + ALIGNED - 1) / ALIGNED * ALIGNED;
        mapping->base = reinterpret_cast<unsigned char*>(base);
        mapping->guarded = &one;
        one.broken.store(false);
        one.end.store(base + uintptr_t(mapping->capacity));
        one.begin.store(base);
        *refused = FB_NOT_REFUSED;
        return mapping;
    }
    if (reserved != MAP_FAILED) munmap(reserved, size_t(mapping->capacity + ALIGNED));
    delete mapping;
    return nullptr;
}

const void* fb_mapping_base(const fb_mapping* mapping) { return mapping ? mapping->base : nullptr; }

int64_t fb_mapping_look(fb_mapping* mapping, int descriptor, int64_t offset, int64_t bytes) {
    if (!mapping || offset < 0 || bytes < 1 || bytes > mapping->capacity || offset > mapping->file.st_size - bytes)
        return FB_WRONG;
    sigset_t blocked;
    if (pthread_sigmask(SIG_BLOCK, nullptr, &blocked) != 0 || sigismember(&blocked, SIGBUS)) return FB_WRONG;
    if (mapping->guarded->broken.load() || !is_guarded() || !mapping->is_same(descriptor)) return FB_WRONG;
    if (offset < mapping->at || offset + bytes > mapping->at + mapping->bytes) {
        const int64_t at = offset / ALIGNED * ALIGNED;
        if (offset + bytes > at + mapping->capacity) return FB_WRONG;
        const int64_t left = mapping->file.st_size - at;
        mapping->bytes = 0;
        if (mmap(mapping->base, size_t(mapping->capacity), PROT_READ, MAP_SHARED | MAP_FIXED, descriptor, at) == MAP_FAILED)
            return FB_WRONG;
        mapping->at = at;
        mapping->bytes = left < mapping->capacity ? left : mapping->capacity;
    }
    return offset - mapping->at;
}

int fb_mapping_whole(const fb_mapping* mapping, int descriptor) {
    return mapping && !mapping->guarded->broken.load() && mapping->is_same(descriptor);
}

void fb_mapping_free(fb_mapping* mapping) {
    if (!mapping) return;
    mapping->guarded->begin.store(0);
    munmap(mapping->reserved, size_t(mapping->capacity + ALIGNED));
    mapping->guarded->taken.store(false);
    delete mapping;
}
}

#else

extern "C" {

fb_mapping* fb_mapping_new(int, int64_t, int32_t* refused) {
    if (refused) *refused = FB_UNGUARDED;
    return nullptr;
}
const void* fb_mapping_base(const fb_mapping*) { return nullptr; }
int64_t fb_mapping_look(fb_mapping*, int, int64_t, int64_t) { return FB_WRONG; }
int fb_mapping_whole(const fb_mapping*, int) { return 0; }
void fb_mapping_free(fb_mapping*) {}
}

#endif
