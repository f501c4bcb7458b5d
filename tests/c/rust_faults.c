/* Calls the fault of tests/deliberate-faults that the argument names, or none. Prints "ended" if nothing stopped it. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

uint32_t fault_use_after_free(void);
uint32_t fault_stack_overrun(void);
void fault_leak(void);
uint32_t fault_race(void);
_Bool fault_race_in_the_standard_library(void);

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    const char *fault = argv[1];
    if (strcmp(fault, "use_after_free") == 0)
        fault_use_after_free();
    else if (strcmp(fault, "stack_overrun") == 0)
        fault_stack_overrun();
    else if (strcmp(fault, "leak") == 0)
        fault_leak();
    else if (strcmp(fault, "race") == 0)
        fault_race();
    else if (strcmp(fault, "race_in_the_standard_library") == 0)
        fault_race_in_the_standard_library();
    else if (strcmp(fault, "none") != 0)
        return 2;
    puts("ended");
    return 0;
}
