// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";
import {ModelRegistryAttestTolerance} from "./attestTolerance.t.sol";

abstract contract ModelRegistryPublishTolerance is ModelRegistryAttestTolerance {
    function test_publishTolerance__before_attestation__replaces() public {
        _registerModel(500);
        vm.prank(creator);
        models.publishTolerance(modelId, "new");
        assertEq(models.model(modelId).toleranceRoot, "new");
        vm.expectRevert(abi.encodeWithSelector(IModelRegistry.NotCreator.selector, address(this)));
        models.publishTolerance(modelId, "x");
        vm.prank(creator);
        vm.expectRevert(IModelRegistry.BadRegistration.selector);
        models.publishTolerance(modelId, 0);
    }

    function test_publishTolerance__after_attestation__leaves_slashing_on_until_attested() public {
        _registerModel(500);
        _joinVerifiers();
        _attest();
        vm.prank(creator);
        models.publishTolerance(modelId, "new");
        assertTrue(models.isAttested(modelId));
        assertEq(models.model(modelId).toleranceRoot, keccak256("tolerance"));
        assertEq(models.pendingTolerance(modelId), "new");
        _attestRoot("new", 3);
        assertEq(models.model(modelId).toleranceRoot, "new");
        assertEq(models.pendingTolerance(modelId), 0);
        vm.expectRevert(IModelRegistry.BadAttestation.selector);
        this.attest(keccak256("tolerance"), 3);
    }
}
