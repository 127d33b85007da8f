"""The tests of the interpreter that do not apply, by name, each with its reason.  All others run."""

PRIVATE = "looks into private fields of ProcessPoolExecutor"
ISOLATION = "promises that one fault breaks the whole pool; here it costs its own task"

EXCLUDED = {
    "ProcessPoolExecutorTest": {
        "test_idle_process_reuse_multiple": f"{PRIVATE} (_processes); see processes/test_workers.py",
        "test_idle_process_reuse_one": f"{PRIVATE} (_processes); see processes/test_workers.py",
        "test_broken_process_pool_traceback": f"{ISOLATION} (and {PRIVATE}); see processes/test_deaths.py",
        "test_failed_worker_replacement_breaks_pool": f"{PRIVATE} (_executor_manager_thread); see test_workers.py",
        "test_force_shutdown_during_max_tasks_worker_exit": f"{PRIVATE} (_force_shutting_down); see test_shutdown.py",
        "test_force_shutdown_workers": f"{PRIVATE} (_processes); see processes/test_shutdown.py",
        "test_force_shutdown_workers_invalid_op": f"{PRIVATE} (_force_shutdown)",
        "test_force_shutdown_workers_stops_pool": f"{PRIVATE} (_processes); see processes/test_shutdown.py",
        "test_gc_during_max_tasks_worker_exit_gh152967": f"{PRIVATE} (_executor_manager_thread); see test_workers.py",
        "test_kill_workers": f"{PRIVATE} (_force_shutdown); see processes/test_shutdown.py",
        "test_killed_child": f"{ISOLATION} (and {PRIVATE}); see processes/test_deaths.py",
        "test_max_tasks_per_child": f"{PRIVATE} (_processes); see processes/test_workers.py",
        "test_max_tasks_per_child_defaults_to_spawn_context": f"{PRIVATE} (_mp_context); fork is always refused",
        "test_shutdown_no_wait_max_tasks_gh119592": f"{PRIVATE} (_executor_manager_thread); see test_workers.py",
        "test_terminate_workers": f"{PRIVATE} (_force_shutdown); see processes/test_shutdown.py",
        "test_python_finalization_error": "wants a thread that an executor of the standard library starts second to be "
        "refused; ours starts one, and its tasks run",
        "test_saturation": f"{PRIVATE} (_processes, _max_workers); see processes/test_workers.py",
    },
    "ProcessPoolShutdownTest": {
        "test_cancel_futures": "wants a task to have started at once; our workers start in the background, and what no "
        "worker has is cancelled; see processes/test_shutdown.py",
        "test_context_manager_shutdown": f"{PRIVATE} (_processes); see processes/test_shutdown.py",
        "test_del_shutdown": f"{PRIVATE} (_executor_manager_thread, …); see processes/test_shutdown.py",
        "test_processes_terminate": f"{PRIVATE} (_processes); see processes/test_shutdown.py",
        "test_shutdown_no_wait": f"{PRIVATE} (_executor_manager_thread, …); see processes/test_shutdown.py",
    },
    "ExecutorDeadlockTest": {
        "test_error_at_task_unpickle": f"{ISOLATION}: the task gets the error; see tests/processes/test_payload.py",
        "test_exit_at_task_unpickle": f"{ISOLATION}: the task gets the SystemExit; see tests/processes/test_payload.py",
        "test_error_during_result_unpickle_in_result_handler": f"{ISOLATION}; see tests/processes/test_payload.py",
        "test_exit_during_result_unpickle_in_result_handler": f"{ISOLATION}; see tests/processes/test_payload.py",
        "test_shutdown_deadlock_pickle": f"{PRIVATE} (_executor_manager_thread); see processes/test_shutdown.py",
    },
    "FailingInitializerMixin": {
        "test_initializer": f"{PRIVATE} (_broken); see processes/test_workers.py",
    },
    "FailingInitializerResourcesTest": {
        "test_forkserver": f"runs the test before, which {PRIVATE} (_broken), in a program of its own",
        "test_spawn": f"runs the test before, which {PRIVATE} (_broken), in a program of its own",
    },
}
