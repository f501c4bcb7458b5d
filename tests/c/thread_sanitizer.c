/* What a program that runs the library under ThreadSanitizer needs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

/* LLVM's code calls these in the runtime, where older ones of gcc do not have them. They are the functions of the C library,
 * which the runtime replaces. */

void *__tsan_memcpy(void *to, const void *from, size_t size);
void *__tsan_memmove(void *to, const void *from, size_t size);
void *__tsan_memset(void *to, int value, size_t size);

void *__tsan_memcpy(void *to, const void *from, size_t size)
{
    return memcpy(to, from, size);
}

void *__tsan_memmove(void *to, const void *from, size_t size)
{
    return memmove(to, from, size);
}

void *__tsan_memset(void *to, int value, size_t size)
{
    return memset(to, value, size);
}

/* The runtime's data of a thread are on its stack, and code without optimisations needs more of it: the library's threads
 * get 2 MB besides what they ask for. */
int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t size)
{
    static int (*real)(pthread_attr_t *, size_t);
    if (__atomic_load_n(&real, __ATOMIC_ACQUIRE) == NULL) {
        int (*found)(pthread_attr_t *, size_t);
        *(void **)&found = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");
        __atomic_store_n(&real, found, __ATOMIC_RELEASE);
    }
    return real(attributes, size + 2 * 1024 * 1024);
}
