"""Pods as a controller and a kubelet would have made them: objects with an address and a ready status.

Usage: pods.py NAMESPACE ADDRESS... < objects
Reads LeaderWorkerSets and Deployments, as the JSON that `kubectl --output json` prints, and prints their pods as a list, each
with the next address. Names, labels and owners are those that the controllers give.
"""

import copy
import json
import sys


def pods_of(workload):
    """Name, owner and template of each pod."""
    yield from (pods_of_group if workload["kind"] == "LeaderWorkerSet" else pods_of_deployment)(workload)


def pods_of_deployment(workload):
    name, spec = workload["metadata"]["name"], workload["spec"]
    for number in range(spec.get("replicas", 1)):
        yield f"{name}-5d7f9-{number}", ("ReplicaSet", f"{name}-5d7f9"), copy.deepcopy(spec["template"])


def pods_of_group(workload):
    name, spec = workload["metadata"]["name"], workload["spec"]
    group_spec = spec["leaderWorkerTemplate"]
    for group in range(spec.get("replicas", 1)):
        for worker in range(group_spec["size"]):
            leader = f"{name}-{group}"
            template = copy.deepcopy(group_spec["workerTemplate"])
            template["metadata"]["labels"] |= {
                "leaderworkerset.sigs.k8s.io/name": name,
                "leaderworkerset.sigs.k8s.io/group-index": str(group),
                "leaderworkerset.sigs.k8s.io/worker-index": str(worker),
            }
            # The leaders belong to one StatefulSet, the workers of each group to another.
            owner = ("StatefulSet", name if worker == 0 else leader)
            yield (leader if worker == 0 else f"{leader}-{worker}"), owner, template


def pod(namespace, address, name, owner, template):
    kind, owner_name = owner
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": owner_name, "uid": f"uid-{owner_name}", "controller": True}
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"]
        | {"name": name, "generateName": f"{owner_name}-", "namespace": namespace, "ownerReferences": [reference]},
        "spec": template["spec"] | {"nodeName": "node"},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions},
    }


def main():
    namespace, *addresses = sys.argv[1:]
    objects = json.load(sys.stdin)
    parts = [part for workload in objects.get("items", [objects]) for part in pods_of(workload)]
    pods = [pod(namespace, address, *part) for address, part in zip(addresses, parts)]
    json.dump({"apiVersion": "v1", "kind": "List", "items": pods}, sys.stdout)


main()
