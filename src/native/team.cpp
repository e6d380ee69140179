#include "team.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <exception>
#include <thread>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

constexpr int SPINS = 4000;  // some 50 microseconds: a mini-batch's parts end within less of each other, unless a core is lost

void breathe() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Python's signal handlers belong to the interpreter's threads: ours are born with all signals blocked.
class NoSignals {
public:
#if defined(__unix__) || defined(__APPLE__)
    NoSignals() {
        sigset_t all;
        sigfillset(&all);
        for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, fault);  // or a crash is silent
        pthread_sigmask(SIG_SETMASK, &all, &before);
    }
    ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before, nullptr); }

private:
    sigset_t before;
#endif
};

}  // namespace

struct fb_team {
    int size = 1;
    std::atomic<bool> go{false};
    std::atomic<int> arrived{0};
    std::atomic<unsigned> round{0};
    std::atomic<int> sleeping{0};
    std::mutex mutex;
    std::condition_variable changed;

    // Spin a little, then sleep, until ready() holds.
    template <class Ready>
    void until(Ready ready) {
        for (int spin = 0; spin < SPINS; spin++) {
            if (ready()) return;
            breathe();
        }
        std::unique_lock<std::mutex> lock(mutex);
        sleeping.fetch_add(1);
        changed.wait(lock, ready);
        sleeping.fetch_sub(1);
    }

    void wake() {
        if (sleeping.load() == 0) return;
        std::lock_guard<std::mutex> lock(mutex);
        changed.notify_all();
    }
};

extern "C" {

int fb_team_size(const fb_team* team) { return team->size; }

void fb_team_wait(fb_team* team) {
    if (team->size == 1) return;
    const unsigned round = team->round.load();
    if (team->arrived.fetch_add(1) + 1 == team->size) {
        team->arrived.store(0);
        team->round.store(round + 1);
        team->wake();
    } else {
        team->until([=] { return team->round.load() != round; });
    }
}

void fb_team_run(int threads, void (*body)(void*, fb_team*, int), void* argument) {
    fb_team team;
    std::vector<std::thread> others;
    if (threads > 1) {
        NoSignals blocked;
        try {
            others.reserve(size_t(threads) - 1);
            for (int rank = 1; rank < threads; rank++) {
                others.emplace_back([&team, body, argument, rank] {
                    team.until([&team] { return team.go.load(); });
                    body(argument, &team, rank);
                });
                team.size = rank + 1;
            }
        } catch (const std::exception&) {  // no more threads to be had: those that there are do the work
        }
    }
    team.go.store(true);
    team.wake();
    body(argument, &team, 0);
    for (std::thread& other : others) other.join();
}

double fb_seconds(void) { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
}
