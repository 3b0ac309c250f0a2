"""Services: what answers from outside."""

from mmflow.plugin import hookimpl


@hookimpl
def mmflow_components():
    return {
        "service/scripted": "mmflow_services.scripted:Scripted",
        "service/http_chat": "mmflow_services.http_chat:HttpChat",
    }
