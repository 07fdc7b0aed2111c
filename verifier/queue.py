"""The Celery application. It only rings the bell: what is to be done, and whether it was, is in PostgreSQL."""

from celery import Celery

from protocol.settings import VerifierSettings

CHECK_TASK = "verifier.check"
ATTEST_TASK = "verifier.attest"


def celery_app(settings: VerifierSettings) -> Celery:
    """Configured from settings: a broker's URL, or folders for the filesystem transport."""
    app = Celery("verifier")
    if settings.broker_url:
        app.conf.broker_url = settings.broker_url
    else:
        queue, control = settings.broker_dir / "queue", settings.broker_dir / "control"
        for folder in (queue, control):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        app.conf.broker_url = "filesystem://"
        app.conf.broker_transport_options = {
            "data_folder_in": str(queue),
            "data_folder_out": str(queue),
            "control_folder": str(control),
            "polling_interval": 0.2,
        }
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=f"replay-{settings.data_dir.name}",
        worker_prefetch_multiplier=1,
        task_acks_late=True,
        broker_connection_retry_on_startup=True,
        worker_hijack_root_logger=False,
    )
    return app
