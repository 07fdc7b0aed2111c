// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {stdJson} from "forge-std/StdJson.sol";

import {IPlants} from "../../src/interfaces/IPlants.sol";
import {ISettlement} from "../../src/interfaces/ISettlement.sol";
import {BLS12381} from "../../src/libraries/BLS12381.sol";
import {CheckpointLib} from "../../src/libraries/CheckpointLib.sol";
import {ReceiptLib} from "../../src/libraries/ReceiptLib.sol";
import {Network} from "../utils/Network.t.sol";

/// @notice The contracts compute what the executable spec computes: both read `protocol/vectors`.
contract VectorsTest is Network {
    using stdJson for string;

    function test_receipt__vectors__hash_to_the_same_leaf_and_root() public view {
        string memory json = vm.readFile("protocol/vectors/receipts.json");
        for (uint256 i; i < 3; ++i) {
            string memory at = string.concat(".cases[", vm.toString(i), "]");
            ReceiptLib.Receipt memory r = _read(json, string.concat(at, ".receipt."));
            assertEq(ReceiptLib.structHash(r), json.readBytes32(string.concat(at, ".structHash")));
            assertEq(ReceiptLib.leaf(r), json.readBytes32(string.concat(at, ".leaf")));
            bytes32[] memory proof = json.readBytes32Array(string.concat(at, ".proof"));
            assertTrue(MerkleProof.verify(proof, json.readBytes32(string.concat(at, ".root")), ReceiptLib.leaf(r)));
        }
    }

    function test_checkpoint__vectors__hash_to_the_same() public view {
        string memory json = vm.readFile("protocol/vectors/receipts.json");
        CheckpointLib.Checkpoint memory p = CheckpointLib.Checkpoint({
            jobId: json.readBytes32(".checkpoint.jobId"),
            provider: json.readAddress(".checkpoint.provider"),
            epoch: uint64(json.readUint(".checkpoint.epoch")),
            firstLayer: uint16(json.readUint(".checkpoint.firstLayer")),
            endLayer: uint16(json.readUint(".checkpoint.endLayer")),
            firstPosition: uint32(json.readUint(".checkpoint.firstPosition")),
            count: uint32(json.readUint(".checkpoint.count")),
            rootIn: json.readBytes32(".checkpoint.rootIn"),
            rootOut: json.readBytes32(".checkpoint.rootOut"),
            previous: json.readBytes32(".checkpoint.previous"),
            upstream: json.readBytes32(".checkpoint.upstream")
        });
        assertEq(CheckpointLib.structHash(p), json.readBytes32(".structHashes.Checkpoint"));
    }

    function test_voucher__vectors__hash_under_this_contracts_domain() public view {
        string memory json = vm.readFile("protocol/vectors/vouchers.json");
        (, string memory name, string memory version, uint256 chainId, address contract_,,) = settlement.eip712Domain();
        bytes32 typehash = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        bytes32 domain = keccak256(abi.encode(typehash, keccak256(bytes(name)), keccak256(bytes(version)), chainId, contract_));
        for (uint256 i; i < 2; ++i) {
            string memory at = string.concat(".cases[", vm.toString(i), "]");
            ISettlement.Voucher memory v = ISettlement.Voucher(
                json.readAddress(string.concat(at, ".voucher.payer")),
                json.readAddress(string.concat(at, ".voucher.gateway")),
                json.readAddress(string.concat(at, ".voucher.provider")),
                json.readBytes32(string.concat(at, ".voucher.modelId")),
                uint128(json.readUint(string.concat(at, ".voucher.cumulative")))
            );
            bytes32 structHash = json.readBytes32(string.concat(at, ".structHash"));
            assertEq(settlement.hashVoucher(v), keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        }
    }

    function test_tree__vectors__every_proof_holds() public view {
        string memory json = vm.readFile("protocol/vectors/trees.json");
        for (uint256 i; i < 7; ++i) {
            string memory at = string.concat(".cases[", vm.toString(i), "]");
            bytes32 root = json.readBytes32(string.concat(at, ".root"));
            bytes32[] memory receipts = json.readBytes32Array(string.concat(at, ".receipts"));
            for (uint256 k; k < receipts.length; ++k) {
                bytes32[] memory proof = json.readBytes32Array(string.concat(at, ".proofs[", vm.toString(k), "]"));
                assertTrue(MerkleProof.verify(proof, root, keccak256(abi.encode(receipts[k]))));
            }
        }
    }

    function test_bls__vectors__hash_verify_and_aggregate() public view {
        string memory json = vm.readFile("protocol/vectors/bls.json");
        bytes memory message = json.readBytes(".message");
        (bool ok, bytes memory point) = BLS12381.hashToG1(message);
        assertTrue(ok);
        assertEq(point, json.readBytes(".hash"));
        for (uint256 i; i < 3; ++i) {
            bytes memory key = json.readBytes(string.concat(".keys[", vm.toString(i), "]"));
            bytes memory signature = json.readBytes(string.concat(".signatures[", vm.toString(i), "]"));
            assertTrue(BLS12381.verify(key, message, signature));
            assertFalse(BLS12381.verify(key, json.readBytes(".otherMessage"), signature));
        }
        assertTrue(BLS12381.verify(json.readBytes(".aggregateKey"), message, json.readBytes(".aggregate")));
    }

    /// @dev Property 17: cases that py-ecc made. A malformed one costs no more than the caps.
    function test_bls__cases_by_py_ecc__are_judged_alike() public view {
        string memory json = vm.readFile("contracts/test/vectors/bls_cases.json");
        for (uint256 i; json.keyExists(string.concat(".cases[", vm.toString(i), "]")); ++i) {
            string memory at = string.concat(".cases[", vm.toString(i), "]");
            bytes memory key = json.readBytes(string.concat(at, ".key"));
            bytes memory message = json.readBytes(string.concat(at, ".message"));
            bytes memory signature = json.readBytes(string.concat(at, ".signature"));
            uint256 before = gasleft();
            bool ok = BLS12381.verify(key, message, signature);
            assertLt(before - gasleft(), 200_000);
            assertEq(ok, json.readBool(string.concat(at, ".valid")), json.readString(string.concat(at, ".name")));
        }
        assertTrue(json.keyExists(".cases[17]"));
    }

    function test_bls__infinity_or_wrong_length__is_refused() public view {
        string memory json = vm.readFile("protocol/vectors/bls.json");
        bytes memory message = json.readBytes(".message");
        assertFalse(BLS12381.verify(new bytes(256), message, new bytes(128)));
        assertFalse(BLS12381.verify(json.readBytes(".keys[0]"), message, new bytes(128)));
        assertFalse(BLS12381.verify(json.readBytes(".keys[0]"), message, new bytes(127)));
        assertFalse(BLS12381.verify(new bytes(255), message, json.readBytes(".signatures[0]")));
    }

    function test_message__vectors__are_the_contracts() public view {
        string memory json = vm.readFile("protocol/vectors/bls.json");
        bytes memory message =
            verifiers.messageFor("VERDICT", json.readAddress(".contract"), uint64(json.readUint(".epoch")), json.readBytes32(".payload"));
        assertEq(message, json.readBytes(".message"));
        string memory ids = vm.readFile("protocol/vectors/ids.json");
        assertEq(keccak256(abi.encode(ids.readBytes32(".manifestRoot"))), ids.readBytes32(".modelId"));
        bytes32 job = keccak256(abi.encode(ids.readAddress(".gateway"), ids.readUint(".nonce"), ids.readBytes32(".requestHash")));
        assertEq(job, ids.readBytes32(".jobId"));
    }

    function test_duties__vectors__results_roots_and_plants_are_the_contracts() public view {
        string memory json = vm.readFile("protocol/vectors/duties.json");
        for (uint256 i; i < 4; ++i) {
            string memory at = string.concat(".cases[", vm.toString(i), "]");
            IPlants.Result memory result = abi.decode(json.readBytes(string.concat(at, ".result")), (IPlants.Result));
            assertEq(uint8(result.verdict), i + 1);
            bytes32 leaf = keccak256(bytes.concat(keccak256(abi.encode(result))));
            bytes32 tree = MerkleProof.processProof(json.readBytes32Array(string.concat(at, ".proof")), leaf);
            assertEq(keccak256(abi.encode(keccak256(json.readBytes(".signature")), tree)), json.readBytes32(".root"));
        }
        address provider = json.readAddress(".provider");
        bytes32 hash = plants.hashOf(json.readBytes32(".plant.salt"), provider, json.readAddress(".plant.payer"));
        assertEq(hash, json.readBytes32(".plant.hash"));
    }

    function _read(string memory json, string memory at) private pure returns (ReceiptLib.Receipt memory r) {
        r.provider = json.readAddress(string.concat(at, "provider"));
        r.number = uint64(json.readUint(string.concat(at, "number")));
        r.jobId = json.readBytes32(string.concat(at, "jobId"));
        r.payer = json.readAddress(string.concat(at, "payer"));
        r.gateway = json.readAddress(string.concat(at, "gateway"));
        r.modelId = json.readBytes32(string.concat(at, "modelId"));
        r.firstLayer = uint16(json.readUint(string.concat(at, "firstLayer")));
        r.endLayer = uint16(json.readUint(string.concat(at, "endLayer")));
        r.executionClass = json.readBytes32(string.concat(at, "executionClass"));
        r.epoch = uint64(json.readUint(string.concat(at, "epoch")));
        r.firstPosition = uint32(json.readUint(string.concat(at, "firstPosition")));
        r.positionCount = uint32(json.readUint(string.concat(at, "positionCount")));
        r.cachedCount = uint32(json.readUint(string.concat(at, "cachedCount")));
        r.checkpoint = json.readBytes32(string.concat(at, "checkpoint"));
        r.promptTokens = uint32(json.readUint(string.concat(at, "promptTokens")));
        r.completionTokens = uint32(json.readUint(string.concat(at, "completionTokens")));
        r.inputPrice = uint128(json.readUint(string.concat(at, "inputPrice")));
        r.cachedPrice = uint128(json.readUint(string.concat(at, "cachedPrice")));
        r.outputPrice = uint128(json.readUint(string.concat(at, "outputPrice")));
        r.amount = uint128(json.readUint(string.concat(at, "amount")));
    }
}
